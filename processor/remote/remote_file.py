"""Reads a remote file from its beginning, and puts a whole file at an address."""

from __future__ import annotations

from typing import Any

from processor.core.errors import ConfigError, reason
from processor.remote.addresses import shown_address
from processor.remote.file_system import as_os_error, file_system

READ_AHEAD_BYTES = 4 << 20
"""Fetched at a time."""


class RemoteFile:
    """An open remote file. All its errors are OSErrors; none of them shows a secret of its address.

    If the server does not support ranges, seeking to the beginning opens the file again.
    """

    def __init__(self, path: str) -> None:
        """Open the file. Raises ConfigError where a package is missing or the file cannot be read."""
        self.name = shown_address(path)
        self._system, self._path = file_system(path)
        try:
            with as_os_error():
                self._version = self._read_version()
                self._file = self._open()
        except OSError as error:
            raise ConfigError(f"cannot read {self.name}: {reason(error)}") from None
        self.closed = False

    @property
    def size(self) -> int:
        """In bytes; 0 where the server does not say."""
        return getattr(self._file, "size", None) or 0

    def read(self, size: int = -1) -> bytes:
        with as_os_error():
            return bytes(self._file.read(size))

    def seek(self, at: int, whence: int = 0) -> int:
        with as_os_error():
            if (at, whence) == (0, 0):
                self._restart()
                return 0
            return int(self._file.seek(at, whence))

    def tell(self) -> int:
        with as_os_error():
            return int(self._file.tell())

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        with as_os_error():
            self._file.close()

    def _open(self) -> Any:
        return self._system.open(self._path, "rb", block_size=READ_AHEAD_BYTES)

    def _restart(self) -> None:
        """Go back to the beginning. Raises OSError where the file is another one by now."""
        if self._file.tell() == 0:
            return
        if self._read_version() != self._version:
            raise OSError("it was changed while it was read")
        self._file.close()
        self._file = self._open()

    def _read_version(self) -> tuple[Any, ...]:
        """What differs between two contents under one address, as far as the server tells."""
        self._system.invalidate_cache()
        found = self._system.info(self._path)
        return tuple(str(found.get(name)) for name in ("ETag", "etag", "size", "LastModified", "last_modified"))


def upload(local: str, path: str) -> None:
    """Put a file at an address, where it appears when it is whole. Raises ConfigError, OSError."""
    system, target = file_system(path, "write")
    with as_os_error():
        system.put_file(local, target)


def check_can_upload(path: str) -> None:
    """Raises ConfigError where a package for the address is missing, before anything is made for it."""
    file_system(path, "write")
