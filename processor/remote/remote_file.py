"""Reads a remote file from its beginning, and puts a whole file at an address. fsspec is imported only here."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from processor.core.errors import ConfigError, reason
from processor.remote.addresses import EXTRAS, scheme_of, shown_address

READ_AHEAD_BYTES = 4 << 20
"""Fetched at a time."""


class RemoteFile:
    """An open remote file. All its errors are OSErrors; none of them shows a secret of its address.

    If the server does not support ranges, seeking to the beginning opens the file again.
    """

    def __init__(self, path: str) -> None:
        """Open the file. Raises ConfigError where a package is missing or the file cannot be read."""
        self.name = shown_address(path)
        self._system, self._path = _file_system(path)
        try:
            with _as_os_error():
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
        with _as_os_error():
            return bytes(self._file.read(size))

    def seek(self, at: int, whence: int = 0) -> int:
        with _as_os_error():
            if (at, whence) == (0, 0):
                self._restart()
                return 0
            return int(self._file.seek(at, whence))

    def tell(self) -> int:
        with _as_os_error():
            return int(self._file.tell())

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        with _as_os_error():
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
    system, target = _file_system(path, "write")
    with _as_os_error():
        system.put_file(local, target)


def check_can_upload(path: str) -> None:
    """Raises ConfigError where a package for the address is missing, before anything is made for it."""
    _file_system(path, "write")


def _file_system(path: str, purpose: str = "read") -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it. Raises ConfigError where a package is missing."""
    scheme = scheme_of(path) or ""
    try:
        import fsspec

        with _as_os_error():
            return fsspec.core.url_to_fs(path)  # type: ignore[no-any-return]
    except ImportError:
        remedy = f"pip install 'processor[{EXTRAS[scheme]}]'"
        raise ConfigError(f"cannot {purpose} {shown_address(path)}: {scheme}:// needs a package: {remedy}") from None
    except OSError as error:
        raise ConfigError(f"cannot {purpose} {shown_address(path)}: {reason(error)}") from None


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Raise what the libraries of the object stores raise, which has no common type, as an OSError."""
    try:
        yield
    except FileNotFoundError as error:
        why = f", or it cannot be reached: {error.__cause__}" if error.__cause__ else ""
        raise OSError(errno.ENOENT, f"there is no such file{why}") from None
    except (OSError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001
        raise OSError(str(error) or type(error).__name__) from None
