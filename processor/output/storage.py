"""The file operations of the results file, as a protocol and on the local disk.

Every operation raises OSError where the system refuses it. Written bytes survive the death of the process at once, and
a loss of power only after ``sync``. New, renamed and removed names survive a loss of power after ``sync_folder``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

from processor.core import platform
from processor.core.errors import OutputError, reason
from processor.core.private_files import NEW_FILE_MODE
from processor.core.text import setting_name

OpenMode = Literal["read", "append", "new", "update"]
"""``append``, ``update`` and ``new`` create a missing file; ``new`` also empties an existing one."""


class StorageFile(Protocol):
    """An open file. Positions and sizes are in bytes."""

    def size(self) -> int: ...

    def read(self, at: int, size: int) -> bytes:
        """Return up to ``size`` bytes from position ``at``: fewer, or none, at the end of the file."""
        ...

    def write(self, data: bytes | memoryview) -> int:
        """Write at the end of a file opened to append, or as new. Return how many bytes were written, perhaps fewer
        than given: ``write_all`` completes such a write."""
        ...

    def write_at(self, at: int, data: bytes) -> None:
        """Overwrite from position ``at``, and extend the file where needed. Writes all of ``data``."""
        ...

    def truncate(self, size: int) -> None: ...

    def sync(self) -> None:
        """Block until everything written to the file survives a loss of power."""
        ...

    def lock(self) -> bool:
        """Take the exclusive lock without waiting; False where another process holds it. ``close`` releases it."""
        ...

    def links(self) -> int:
        """Return the number of names of the file. With 0, what is written to it is lost when it is closed."""
        ...

    def modified_ns(self) -> int:
        """Return when the content was last modified, in nanoseconds since 1970: whoever did it."""
        ...

    def close(self) -> None: ...


class Storage(Protocol):
    """A file system."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the same files."""
        ...

    @property
    def can_replace_open_files(self) -> bool:
        """Whether a file may be renamed or replaced while this process has it open."""
        ...

    @property
    def weaknesses(self) -> Sequence[str]:
        """What the file system has refused so far, and which promise is weaker without it; a sentence for each."""
        ...

    def open(self, path: Path, mode: OpenMode) -> StorageFile: ...

    def exists(self, path: Path) -> bool: ...

    def leads_to(self, path: Path, file: StorageFile) -> bool:
        """Whether this name is a name of the open file."""
        ...

    def replace(self, source: Path, target: Path) -> None:
        """Rename ``source`` to ``target`` in one step, and return when that survives a loss of power.

        A ``target`` that exists keeps its permissions and owner, and a symbolic link stays a link.
        """
        ...

    def note_weakness(self, sentence: str) -> None:
        """Add a sentence to ``weaknesses``, once."""
        ...

    def remove(self, path: Path) -> None: ...

    def sync_folder(self, path: Path) -> None:
        """Block until the names in the folder that holds ``path`` survive a loss of power."""
        ...

    def free_bytes(self, path: Path) -> int:
        """Return the free space of the disk that holds the folder of ``path``."""
        ...


MAX_LOCK_ATTEMPTS = 100

NO_LOCKS = "the file system has no locks: nothing keeps a second run from writing to the same results"
NO_FSYNC = "the file system has no fsync: a loss of power may cost any row of this run"
NO_FOLDER_FSYNC = "the file system cannot sync folders: a loss of power may cost a new file its name"
IN_PLACE = "the file system cannot replace a file: readers may see half of a file while it is compacted"

_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
"""Errors of a file system that lacks an operation: https://man7.org/linux/man-pages/man2/flock.2.html, fsync.2.html"""

CANNOT_REPLACE = _UNSUPPORTED | {errno.EPERM, errno.EEXIST, errno.EBUSY}
"""Errors of ``Storage.replace`` where a file can be written and not replaced: its mode or owner cannot be given to
another one, the name is a mount point, or the file system does not rename over a file."""

_FLAGS: dict[OpenMode, int] = {
    "read": os.O_RDONLY,
    "append": os.O_RDWR | os.O_CREAT | os.O_APPEND,
    "new": os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND,
    "update": os.O_RDWR | os.O_CREAT,
}


class LocalFile:
    """A ``StorageFile`` on the local disk."""

    def __init__(self, path: Path, mode: OpenMode, note_weakness: Callable[[str], None] | None = None) -> None:
        self._note_weakness = note_weakness
        # A pipe would block in open(), and a device cannot be truncated or renamed.
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        self._fd = os.open(path, _FLAGS[mode] | platform.OPEN_FLAGS, NEW_FILE_MODE)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read(self, at: int, size: int) -> bytes:
        return platform.read_at(self._fd, size, at)

    def write(self, data: bytes | memoryview) -> int:
        return os.write(self._fd, data)

    def write_at(self, at: int, data: bytes) -> None:
        if platform.write_at(self._fd, data, at) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def sync(self) -> None:
        with self._optional(NO_FSYNC):
            platform.sync_file(self._fd)

    def lock(self) -> bool:
        if not platform.HAS_FILE_LOCKS and self._note_weakness:
            self._note_weakness(NO_LOCKS)
        with self._optional(NO_LOCKS):
            return platform.try_lock(self._fd)
        return True

    def links(self) -> int:
        return os.fstat(self._fd).st_nlink

    def modified_ns(self) -> int:
        return os.fstat(self._fd).st_mtime_ns

    def identity(self) -> tuple[int, int]:
        """Return what identifies the file, by whichever name it is opened."""
        found = os.fstat(self._fd)
        return found.st_dev, found.st_ino

    def close(self) -> None:
        os.close(self._fd)

    @contextmanager
    def _optional(self, weakness: str) -> Iterator[None]:
        """Go on without what the file system does not support, and note what is weaker then."""
        try:
            yield
        except OSError as error:
            if error.errno not in _UNSUPPORTED or self._note_weakness is None:
                raise
            self._note_weakness(weakness)


class LocalStorage:
    """The ``Storage`` of the local disk."""

    is_shared = True
    can_replace_open_files = os.name != "nt"

    def __init__(self) -> None:
        self.weaknesses: list[str] = []

    def open(self, path: Path, mode: OpenMode) -> StorageFile:
        return LocalFile(path, mode, self.note_weakness)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def leads_to(self, path: Path, file: StorageFile) -> bool:
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        return isinstance(file, LocalFile) and file.identity() == (found.st_dev, found.st_ino)

    def replace(self, source: Path, target: Path) -> None:
        target = target.resolve()
        if target.exists():
            _copy_owner_and_mode(target, source)
        platform.replace_file(source, target)
        self.sync_folder(target)

    def note_weakness(self, sentence: str) -> None:
        if sentence not in self.weaknesses:
            self.weaknesses.append(sentence)

    def remove(self, path: Path) -> None:
        path.unlink()

    def sync_folder(self, path: Path) -> None:
        try:
            platform.sync_folder(path.parent)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self.note_weakness(NO_FOLDER_FSYNC)

    def free_bytes(self, path: Path) -> int:
        return platform.free_bytes(path.parent)


def _copy_owner_and_mode(source: Path, target: Path) -> None:
    """Give ``target`` the owner and the mode of ``source``. Raises OSError where it may not have them."""
    wanted, found = source.stat(), target.stat()
    if (wanted.st_uid, wanted.st_gid) != (found.st_uid, found.st_gid):
        os.chown(target, wanted.st_uid, wanted.st_gid)
    # After the owner, whose change may clear bits of the mode.
    if stat.S_IMODE(wanted.st_mode) != stat.S_IMODE(found.st_mode):
        target.chmod(stat.S_IMODE(wanted.st_mode))


def open_locked(storage: Storage, path: Path, mode: OpenMode) -> StorageFile | None:
    """Open and lock a file that other runs lock, too. None if another process holds the lock. Raises OSError.

    The run that held the lock may have deleted or replaced the file between open() and lock(): a lock on a file
    without this name protects nothing, and the file that has the name is tried.
    """
    for _ in range(MAX_LOCK_ATTEMPTS):
        file = storage.open(path, mode)
        try:
            if not file.lock():
                file.close()
                return None
            if storage.leads_to(path, file):
                return file
        except OSError:
            file.close()
            raise
        file.close()
    raise OSError(errno.ESTALE, "the name leads to another file each time it is opened")


def write_all(write: Callable[[memoryview], int], data: bytes) -> None:
    """Call ``write``, which returns how many bytes it took, until all of ``data`` is written."""
    unwritten = memoryview(data)
    while unwritten:
        unwritten = unwritten[write(unwritten) :]


def cannot_write(path: Path, error: OSError) -> str:
    """Return the message for a person; ``path`` is used where the error names no file."""
    return f"cannot write {error.filename or path}: {reason(error)}{_remedy(error)}"


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"; give another {setting_name('out')}, in a folder that you may write to"
    return "; free some space" if error.errno == errno.ENOSPC else ""


@contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Raise an OSError of the body as an OutputError about ``path``."""
    try:
        yield
    except OSError as error:
        raise OutputError(cannot_write(path, error)) from error
