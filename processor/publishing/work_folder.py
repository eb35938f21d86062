"""The work folder: the results files that a run publishes from, with the record and a lock."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from processor.core.errors import ConfigError, reason
from processor.core.json_reading import fields_of, parsed
from processor.core.text import setting_name
from processor.output.paths import OutputPaths
from processor.output.storage import LocalStorage, open_locked
from processor.publishing.record import Record, load_record, save_record
from processor.publishing.rows import file_size

UNUSED_S = 30 * 86400.0
"""A folder in the cache that was not used for so long is removed, if all of it is published."""

_RECORD_FILE = "published.json"
_LOCK_FILE = "lock"


class WorkFolderInUse(ConfigError):
    """A run of this machine is at work there."""


class WorkFolder:
    """Of one output."""

    def __init__(self, path: Path, address: str) -> None:
        """``address``: the folder of the object store that the output is published to, without secrets."""
        self.path = path
        self.address = address
        self.paths = OutputPaths.of(path / results_name(address))

    def create(self) -> None:
        """Create the folder where there is none, for its owner only. Raises ConfigError."""
        with self._as_config_error():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def _as_config_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"cannot use the work folder {self.path}: {reason(error)}; give {setting_name('work_dir')}"
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder where there is none, and lock it. Raises ConfigError; WorkFolderInUse where a run of this
        machine has locked it."""
        self.create()
        with self._as_config_error():
            lock = open_locked(LocalStorage(), self.path / _LOCK_FILE, "update")
        if lock is None:
            raise WorkFolderInUse(
                f"another run of this machine is writing to {self.address}: wait for it, or give another "
                f"{setting_name('out')}"
            )
        with closing(lock):
            yield

    def load_record(self) -> Record:
        """Raises ConfigError where the folder belongs to another address; OSError."""
        return load_record(self.path / _RECORD_FILE, self.address)

    def save_record(self, record: Record) -> None:
        """Raises OSError."""
        save_record(self.path / _RECORD_FILE, record)


def results_name(address: str) -> str:
    """Return the name of the results file at an address. Raises ConfigError where it has none."""
    name = address.rpartition("/")[2]
    if not name or address.count("/") < 3:
        whole = f"{address.rstrip('/')}/results.jsonl"
        raise ConfigError(f"{address} names no results file: give {setting_name('out', whole)}")
    return name


def default_work_folder(address: str, environ: Mapping[str, str]) -> Path:
    """Return the work folder of an address in the user's cache folder. Raises ConfigError where there is none."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", address.partition("://")[2]).strip("-.")[-60:]
    digest = blake2b(address.encode(), digest_size=6).hexdigest()
    return cache_folder(environ) / f"{name}-{digest}"


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder that holds the work folders of all outputs. Raises ConfigError where the environment names
    none."""
    if (given := Path(environ.get("XDG_CACHE_HOME", ""))).is_absolute():
        return given / "processor" / "outputs"
    home = Path(environ.get("LOCALAPPDATA" if os.name == "nt" else "HOME", ""))
    if not home.is_absolute():
        raise ConfigError(
            f"there is no cache folder for results in an object store: give {setting_name('work_dir', 'DIR')}"
        )
    own = "" if os.name == "nt" else "Library/Caches" if sys.platform == "darwin" else ".cache"
    return home / own / "processor" / "outputs"


def remove_unused(folder: Path, *, now: float | None = None) -> None:
    """Remove the work folders in a cache folder that were not used for UNUSED_S, and hold nothing unpublished."""
    now = time.time() if now is None else now
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                _remove_if_unused(path, now)


def _remove_if_unused(path: Path, now: float) -> None:
    record = path / _RECORD_FILE
    if not record.is_file() or now - record.stat().st_mtime < UNUSED_S:
        return
    lock = open_locked(LocalStorage(), path / _LOCK_FILE, "update")
    if lock is None:
        return
    with closing(lock):
        if _is_published(path, record):
            shutil.rmtree(path)


def _is_published(path: Path, record_path: Path) -> bool:
    """Whether all rows in a work folder stand in parts."""
    address = fields_of(parsed(record_path.read_bytes())).get("address")
    if not isinstance(address, str):
        return False
    work_folder = WorkFolder(path, address)
    record, paths = work_folder.load_record(), work_folder.paths
    return (
        not record.files["errors"].is_rewritten
        and record.files["replies"].offset >= file_size(paths.replies)
        and record.files["errors"].offset >= file_size(paths.failures)
    )
