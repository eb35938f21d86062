"""The file with the jobs of one batch, until it is uploaded: written in pieces, readable by its owner only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from processor.batch.provider_batches import ProviderBatches
from processor.core.api_calls import FileBody
from processor.output.storage import Storage, StorageFile, write_all

UploadPath = Callable[[str], Path]
"""Returns where the file of the batch with this name stands."""

_BUFFER_BYTES = 1 << 18


class UploadFile:
    """A file that lines are added to, and that is then read. Methods raise OSError."""

    def __init__(self, storage: Storage, path: Path, api: ProviderBatches) -> None:
        """Create the file."""
        self._storage = storage
        self._path = path
        self._api = api
        self._buffer = bytearray(api.head)
        self._has_lines = False
        self._file: StorageFile | None = storage.open(path, "new")

    def add(self, line: bytes) -> None:
        if self._has_lines:
            self._buffer += self._api.separator
        self._has_lines = True
        self._buffer += line
        if len(self._buffer) >= _BUFFER_BYTES:
            self._flush()

    def finish(self) -> FileBody:
        """Write what is left. Return the content, to be sent."""
        self._buffer += self._api.tail
        self._flush()
        assert self._file is not None
        file = self._file
        return FileBody(size=file.size(), read=file.read)

    def remove(self) -> None:
        """Close the file and delete it."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._storage.remove(self._path)

    def _flush(self) -> None:
        assert self._file is not None, "nothing is added to a file that is removed"
        data, self._buffer = bytes(self._buffer), bytearray()
        write_all(self._file.write, data)
