"""Appends whole lines to a file: the rows that are pending at a flush are written in one write."""

from __future__ import annotations

import errno
from asyncio import Future
from dataclasses import dataclass
from pathlib import Path

from processor.output.index_entry import IndexEntry
from processor.output.storage import Storage, StorageFile, write_all


@dataclass(frozen=True, slots=True)
class PendingRow:
    """A row that is not written yet, or written and not yet reported to its caller."""

    raw: bytes
    """With its line feed."""
    entry: IndexEntry
    written: Future[None]
    """Done when ``append`` may return."""


class Appender:
    """A file that only grows. The first write creates it."""

    def __init__(self, storage: Storage, path: Path) -> None:
        self.path = path
        self.pending: list[PendingRow] = []
        self._storage = storage
        self._file: StorageFile | None = None
        self._size = 0

    def open(self) -> StorageFile:
        """Open the file, unless it is open. Raises OSError."""
        if self._file is None:
            self._file = self._storage.open(self.path, "append")
            self._size = self._file.size()
            if not self._size:
                # The file is new, or an earlier run ended before it could sync the name.
                self._storage.sync_folder(self.path)
        return self._file

    def flush(self) -> tuple[list[PendingRow], OSError | None]:
        """Write the pending rows. Return those that are whole in the file, and the error that kept out the others."""
        try:
            file = self.open()
        except OSError as error:
            return [], error
        try:
            write_all(file.write, b"".join(row.raw for row in self.pending))
            self.raise_if_deleted()
        except FileNotFoundError as error:
            return [], error
        except OSError as error:
            return self._keep_whole_rows(file), error
        return self._pop_pending(len(self.pending)), None

    def raise_if_deleted(self) -> None:
        """Raise FileNotFoundError if the file was deleted: the system accepts writes to it without an error."""
        if self._file and self._file.is_deleted():
            raise FileNotFoundError(errno.ENOENT, "the file has been deleted")

    def _keep_whole_rows(self, file: StorageFile) -> list[PendingRow]:
        """Return the rows that a failed write put into the file whole, and cut off the torn one.

        If that fails as well, the next run cuts it off.
        """
        whole = 0
        try:
            added = file.size() - self._size
            while whole < len(self.pending) and len(self.pending[whole].raw) <= added:
                added -= len(self.pending[whole].raw)
                whole += 1
            if added:
                file.truncate(file.size() - added)
        except OSError:
            pass
        return self._pop_pending(whole)

    def _pop_pending(self, count: int) -> list[PendingRow]:
        rows, self.pending = self.pending[:count], self.pending[count:]
        self._size += sum(len(row.raw) for row in rows)
        return rows

    def sync(self) -> None:
        """Return when all written rows survive a loss of power. Raises OSError."""
        if self._file:
            self._file.sync()

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
