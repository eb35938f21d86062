"""The few things the journal asks of a disk, as a protocol, and the real one. All of them raise OSError."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Literal, Protocol

Mode = Literal["read", "append", "new", "update"]
"""``append`` and ``update`` create the file where it is missing, ``new`` also empties it."""


class StorageFile(Protocol):
    def size(self) -> int: ...
    def read(self, at: int, size: int) -> bytes: ...
    def write(self, data: bytes | memoryview) -> int:
        """Write at the end. May write less than all of it: returns how much."""
        ...

    def write_at(self, at: int, data: bytes) -> None: ...
    def truncate(self, size: int) -> None: ...
    def sync(self) -> None:
        """Return when everything written so far survives a loss of power."""
        ...

    def lock(self) -> bool:
        """Take the exclusive lock without waiting; False where another process holds it."""
        ...

    def is_deleted(self) -> bool:
        """Whether the file has been deleted: what is written to it now is lost."""
        ...

    def close(self) -> None: ...


class Storage(Protocol):
    @property
    def shared(self) -> bool:
        """Whether another process finds the same files."""
        ...

    def open(self, path: Path, mode: Mode) -> StorageFile: ...
    def exists(self, path: Path) -> bool: ...
    def replace(self, source: Path, target: Path) -> None:
        """Put ``source`` in the place of ``target``, in one step, and make that survive a loss of power."""
        ...

    def remove(self, path: Path) -> None: ...
    def sync_folder(self, path: Path) -> None:
        """Make the names in the folder of ``path`` survive a loss of power."""
        ...

    def free_bytes(self, path: Path) -> int:
        """Room on the disk that ``path`` is, or would be, on."""
        ...


_FLAGS: dict[Mode, int] = {
    "read": os.O_RDONLY,
    "append": os.O_RDWR | os.O_CREAT | os.O_APPEND,
    "new": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "update": os.O_RDWR | os.O_CREAT,
}


class LocalFile:
    def __init__(self, path: Path, mode: Mode) -> None:
        # A pipe would block in open(), a device has no end to go on from.
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        self._fd = os.open(path, _FLAGS[mode] | os.O_CLOEXEC, 0o666)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read(self, at: int, size: int) -> bytes:
        return os.pread(self._fd, size, at)

    def write(self, data: bytes | memoryview) -> int:
        return os.write(self._fd, data)

    def write_at(self, at: int, data: bytes) -> None:
        if os.pwrite(self._fd, data, at) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def sync(self) -> None:
        os.fsync(self._fd)

    def lock(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_deleted(self) -> bool:
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        os.close(self._fd)


class LocalStorage:
    shared = True

    def open(self, path: Path, mode: Mode) -> StorageFile:
        return LocalFile(path, mode)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def replace(self, source: Path, target: Path) -> None:
        # A link stays a link, and what it leads to keeps its permissions.
        target = target.resolve()
        source.chmod(stat.S_IMODE(target.stat().st_mode))
        source.replace(target)
        self.sync_folder(target)

    def remove(self, path: Path) -> None:
        path.unlink()

    def sync_folder(self, path: Path) -> None:
        fd = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_bytes(self, path: Path) -> int:
        room = os.statvfs(path.parent)
        return room.f_bavail * room.f_frsize
