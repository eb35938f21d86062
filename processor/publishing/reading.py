"""Finds the results files of a published output, for commands that read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from processor.core.errors import ConfigError, reason
from processor.core.text import setting_name
from processor.publishing.catch_up import caught_up
from processor.publishing.part_names import contents_of
from processor.publishing.work_folder import WorkFolder, WorkFolderInUse, default_work_folder
from processor.remote.addresses import is_writable, shown_address
from processor.remote.object_folder import RemoteFolder


def local_results(results: str, work_dir: Path | None, environ: Mapping[str, str], say: Callable[[str], None]) -> Path:
    """Return the results file of this machine. For an address this brings the files of its work folder up to date.

    While a run of this machine is at work they are, and they are also used where the store cannot be reached: ``say``
    is then called with a sentence about it. Raises ConfigError.
    """
    if not is_writable(results):
        if work_dir is not None:
            raise ConfigError(
                f"{setting_name('work_dir')} is for results in an object store, and {results} is a file: leave it out"
            )
        return Path(results)
    address = shown_address(results)
    work_folder = WorkFolder(work_dir or default_work_folder(address, environ), address)
    is_known = work_folder.path.exists()
    try:
        folder = RemoteFolder(results)
        if not is_known and contents_of(folder.list()).is_empty:
            raise ConfigError(f"there are no results at {address}: give the address that a run has written to")
        with work_folder.locked():
            record = work_folder.load_record()
            work_folder.save_record(caught_up(folder, work_folder.paths, record))
    except OSError as error:
        if not is_known:
            raise ConfigError(f"cannot read {address}: {reason(error)}") from None
        say(f"cannot read {address}: {reason(error)}; these are the rows that this machine has")
    except WorkFolderInUse:
        pass
    return work_folder.paths.replies
