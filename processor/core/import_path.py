"""The folders that modules are imported from, so that nothing in the working folder is executed; and the command of a
child process that imports from the same."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

PACKAGE_FOLDER = str(Path(__file__).parents[2])
"""The folder that holds this package."""

_CODE = (
    "import sys; module, count = sys.argv[1], int(sys.argv[2]); arguments = sys.argv[3 : 3 + count]; "
    "sys.path[:] = sys.argv[3 + count :]; from importlib import import_module; import_module(module).main(*arguments)"
)


def import_path() -> list[str]:
    """The folders from which this process imports, without the working folder.

    A module that lies beside the job file, and is named like one of the standard library, must not be executed. Where
    this package itself lies in the working folder, that stays.
    """
    with suppress(OSError):  # the working folder is deleted: nothing can be imported from it
        working_folder = str(Path.cwd())
        folders = [
            folder
            for folder in sys.path
            if folder == PACKAGE_FOLDER or (folder and str(Path(folder).absolute()) != working_folder)
        ]
        return folders if PACKAGE_FOLDER in folders else [*folders, PACKAGE_FOLDER]
    return [folder for folder in sys.path if folder]


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command of a child process that calls ``main`` of a module with these arguments."""
    # -P: the working folder is not put in front of the path.
    return [sys.executable, "-P", "-c", _CODE, module, str(len(arguments)), *arguments, *import_path()]
