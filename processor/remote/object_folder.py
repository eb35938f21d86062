"""A folder of small objects in an object store: listed, read, created where there is none, overwritten, removed."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from processor.core.errors import ConfigError
from processor.core.text import setting_name
from processor.remote.addresses import is_writable, shown_address
from processor.remote.file_system import as_os_error, file_system


class ObjectFolder(Protocol):
    """Objects are named without the folder. All methods raise OSError where the store fails or refuses."""

    @property
    def name(self) -> str:
        """The address of the folder, without secrets."""
        ...

    def list(self) -> Sequence[str]:
        """Return the names of all objects in the folder, as they are at this moment; none where there is no folder."""
        ...

    def read(self, name: str) -> bytes: ...

    def create(self, name: str, data: bytes) -> bool:
        """Create an object in one step. Return False, and change nothing, where there is one of this name.

        After an error the object may exist or not, but never a part of it.
        """
        ...

    def put(self, name: str, data: bytes) -> None:
        """Create or overwrite an object in one step."""
        ...

    def remove(self, name: str) -> None:
        """Remove an object. It is no error where there is none."""
        ...


class RemoteFolder:
    """An ``ObjectFolder`` through fsspec. It blocks, so that an event loop calls it in a thread."""

    def __init__(self, address: str) -> None:
        """Raises ConfigError where the address cannot be written to, or a package is missing."""
        if not is_writable(address):
            raise ConfigError(
                f"cannot write {shown_address(address)}: give {setting_name('out', 'FILE')}, s3://, gs:// or az://"
            )
        self.name = shown_address(address)
        self._system, self._path = file_system(address.rstrip("/"), "write")

    def list(self) -> Sequence[str]:
        """See ``ObjectFolder``."""
        with as_os_error():
            self._system.invalidate_cache()
            try:
                paths = self._system.ls(self._path, detail=False)
            except FileNotFoundError:
                return ()
        return [name for path in paths if (name := str(path).rstrip("/").rpartition("/")[2])]

    def read(self, name: str) -> bytes:
        """See ``ObjectFolder``."""
        with as_os_error():
            return bytes(self._system.cat_file(self._path_of(name)))

    def create(self, name: str, data: bytes) -> bool:
        """See ``ObjectFolder``. S3: ``If-None-Match: *``, GCS: ``ifGenerationMatch=0``, Azure: ``overwrite=False``."""
        try:
            with _as_write_error():
                self._system.pipe_file(self._path_of(name), data, mode="create")
        except OSError as error:
            if isinstance(error, FileExistsError) or _is_precondition_failed(error):
                return False
            raise
        return True

    def put(self, name: str, data: bytes) -> None:
        """See ``ObjectFolder``."""
        with _as_write_error():
            self._system.pipe_file(self._path_of(name), data)

    def remove(self, name: str) -> None:
        """See ``ObjectFolder``."""
        with as_os_error():
            try:
                self._system.rm_file(self._path_of(name))
            except FileNotFoundError:
                return

    def _path_of(self, name: str) -> Any:
        return f"{self._path}/{name}"


@contextmanager
def _as_write_error() -> Iterator[None]:
    """Raise what a store says of a missing bucket as an error that names it."""
    with as_os_error():
        try:
            yield
        except FileNotFoundError as error:
            raise OSError(errno.EIO, f"there is no such bucket or container ({error})") from None


def _is_precondition_failed(error: OSError) -> bool:
    """Whether the store answered 412. s3fs takes it for an existing object only where the response names the condition,
    which not all stores with the API of S3 do."""
    response = getattr(error.__cause__, "response", None)
    metadata = response.get("ResponseMetadata") if isinstance(response, dict) else None
    return isinstance(metadata, dict) and metadata.get("HTTPStatusCode") == 412
