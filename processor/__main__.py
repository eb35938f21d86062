"""The entry point of ``process`` and ``python -m processor``."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn

from processor.cli.early_signals import install_early_handlers
from processor.core.import_path import import_path


def main() -> NoReturn:
    install_early_handlers()
    gc.disable()  # until the command has imported what it needs: see ``resume_gc``
    sys.path[:] = import_path()
    from processor.cli.main import main as command_line  # slow, so the signal handlers come first

    command_line()


if __name__ == "__main__":
    main()
