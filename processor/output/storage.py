"""The file operations of the results file, as a protocol and on the local disk.

Every operation raises OSError where the system refuses it. Written bytes survive the death of the process at once, and
a loss of power only after ``sync``. New, renamed and removed names survive a loss of power after ``sync_folder``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

from processor.core import platform
from processor.core.errors import OutputError

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

    def is_deleted(self) -> bool:
        """Whether the file has no name any more: what is written to it is lost when it is closed."""
        ...

    def close(self) -> None: ...


class Storage(Protocol):
    """A file system."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the same files."""
        ...

    def open(self, path: Path, mode: OpenMode) -> StorageFile: ...

    def exists(self, path: Path) -> bool: ...

    def replace(self, source: Path, target: Path) -> None:
        """Rename ``source`` to ``target`` in one step, and return when that survives a loss of power.

        ``target`` exists. It keeps its permissions, and a symbolic link stays a link.
        """
        ...

    def remove(self, path: Path) -> None: ...

    def sync_folder(self, path: Path) -> None:
        """Block until the names in the folder that holds ``path`` survive a loss of power."""
        ...

    def free_bytes(self, path: Path) -> int:
        """Return the free space of the disk that holds the folder of ``path``."""
        ...


_FLAGS: dict[OpenMode, int] = {
    "read": os.O_RDONLY,
    "append": os.O_RDWR | os.O_CREAT | os.O_APPEND,
    "new": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "update": os.O_RDWR | os.O_CREAT,
}


class LocalFile:
    """A ``StorageFile`` on the local disk."""

    def __init__(self, path: Path, mode: OpenMode) -> None:
        # A pipe would block in open(), and a device cannot be truncated or renamed.
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        self._fd = os.open(path, _FLAGS[mode] | platform.OPEN_FLAGS, 0o666)

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
        platform.sync_file(self._fd)

    def lock(self) -> bool:
        return platform.try_lock(self._fd)

    def is_deleted(self) -> bool:
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        os.close(self._fd)


class LocalStorage:
    """The ``Storage`` of the local disk."""

    is_shared = True

    def open(self, path: Path, mode: OpenMode) -> StorageFile:
        return LocalFile(path, mode)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def replace(self, source: Path, target: Path) -> None:
        target = target.resolve()
        source.chmod(stat.S_IMODE(target.stat().st_mode))
        platform.replace_file(source, target)
        self.sync_folder(target)

    def remove(self, path: Path) -> None:
        path.unlink()

    def sync_folder(self, path: Path) -> None:
        platform.sync_folder(path.parent)

    def free_bytes(self, path: Path) -> int:
        return platform.free_bytes(path.parent)


def write_all(write: Callable[[memoryview], int], data: bytes) -> None:
    """Call ``write``, which returns how many bytes it took, until all of ``data`` is written."""
    unwritten = memoryview(data)
    while unwritten:
        unwritten = unwritten[write(unwritten) :]


def cannot_write(path: Path, error: OSError) -> str:
    """Return the message for a person; ``path`` is used where the error names no file."""
    return f"cannot write {error.filename or path}: {error.strerror}"


@contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Raise an OSError of the body as an OutputError about ``path``."""
    try:
        yield
    except OSError as error:
        raise OutputError(cannot_write(path, error)) from error
