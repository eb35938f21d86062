"""Appends whole lines to a file: the rows that are pending at a flush are written in one write."""

from __future__ import annotations

import errno
from asyncio import Future
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from processor.output.index_entry import IndexEntry
from processor.output.storage import Storage, StorageFile, open_locked, write_all


class PendingRow(NamedTuple):
    """A row that is not written yet, or written and not yet reported to its caller."""

    raw: bytes
    """With its line feed."""
    entry: IndexEntry
    written: Future[None]
    """Done when ``append`` may return."""


class FileChangedError(OSError):
    """Another program has deleted, moved, replaced or changed a file while it was written."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.ESTALE, what)


class Appender:
    """A file that only grows. The first write creates it."""

    def __init__(self, storage: Storage, path: Path) -> None:
        self.path = path
        self.pending: list[PendingRow] = []
        self._storage = storage
        self._file: StorageFile | None = None
        self._size = 0
        self._modified_ns = 0
        self.on_written: Callable[[IndexEntry, int], None] | None = None
        """Called for each row that was written, with the position at which it begins."""
        self.may_be_overwritten = False
        """Another program has modified the file since this run wrote to it. Its size tells of no change in place."""

    def open(self) -> StorageFile:
        """Open the file, unless it is open. Raises OSError."""
        if self._file is None:
            self._file = self._storage.open(self.path, "append")
            self.continue_at_end()
        return self._file

    def open_locked(self) -> bool:
        """Open the file and take its lock, which ``close`` releases. False where another process holds it.

        Raises OSError.
        """
        if not self._storage.can_replace_open_files:
            # Windows bars others from reading a locked range. The lock of the state file suffices there.
            return self.open() is not None
        self._file = open_locked(self._storage, self.path, "append")
        return self._file is not None

    def continue_at_end(self) -> None:
        """Expect the open file to have its present size: it is new, or has been repaired. Raises OSError."""
        if self._file is None:
            return
        self._size, self._modified_ns = self._file.size(), self._file.modified_ns()
        if not self._size:
            # The file is new, or an earlier run ended before it could sync the name.
            self._storage.sync_folder(self.path)

    @property
    def size(self) -> int:
        """Its size in bytes, as far as this run knows."""
        return self._size

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def has_several_names(self) -> bool:
        """Whether the open file has further names (hard links)."""
        return self._file is not None and self._file.links() > 1

    def reopen_in(self, file: StorageFile) -> None:
        """Continue in a file that has taken the name of the present one. It stays open, and locked if it is locked."""
        self.close()
        self._file, self._size, self._modified_ns = file, file.size(), file.modified_ns()

    def flush(self) -> tuple[list[PendingRow], OSError | None]:
        """Write the pending rows. Return those that are whole in the file, and the error that kept out the others."""
        try:
            file = self.open()
        except OSError as error:
            return [], error
        try:
            rows = b"".join(row.raw for row in self.pending)
            self._notice_overwriting(file)
            write_all(file.write, rows)
            self.raise_if_changed(written=len(rows))
            self._modified_ns = file.modified_ns()
        except FileChangedError as error:
            return [], error
        except OSError as error:
            return self._keep_whole_rows(file), error
        return self._pop_pending(len(self.pending), len(rows)), None

    def raise_if_changed(self, *, written: int = 0) -> None:
        """Raise FileChangedError if the name does not lead to this file, or the file has another size than written.

        The system accepts writes to such a file without an error. ``written`` bytes are not counted as rows yet.
        """
        if self._file is None:
            return
        if not written:
            self._notice_overwriting(self._file)
        if not self._storage.leads_to(self.path, self._file):
            if self._file.links() == 0 and not self._storage.exists(self.path):
                raise FileChangedError("the file has been deleted while this run wrote to it")
            text = "the file has been moved or replaced while this run wrote to it"
            raise FileChangedError(f"{text}: put it back before the next run, or its jobs are sent again")
        size, expected = self._file.size(), self._size + written
        if size < expected:
            raise FileChangedError(f"another program has cut the file: it has {size} bytes, this run left {expected}")
        if size > expected:
            raise FileChangedError("another program has written to the file")

    def _notice_overwriting(self, file: StorageFile) -> None:
        self.may_be_overwritten |= file.modified_ns() != self._modified_ns

    def _keep_whole_rows(self, file: StorageFile) -> list[PendingRow]:
        """Return the rows that a failed write put into the file whole, and cut off the torn one.

        If that fails as well, the next run cuts it off.
        """
        whole = size = 0
        try:
            added = file.size() - self._size
            while whole < len(self.pending) and size + len(self.pending[whole].raw) <= added:
                size += len(self.pending[whole].raw)
                whole += 1
            if added > size:
                file.truncate(self._size + size)
        except OSError:
            pass
        return self._pop_pending(whole, size)

    def _pop_pending(self, count: int, size: int) -> list[PendingRow]:
        """Return the first rows, which are in the file with so many bytes, and count them as written."""
        rows, self.pending = self.pending[:count], self.pending[count:]
        if self.on_written is not None:
            offset = self._size
            for row in rows:
                self.on_written(row.entry, offset)
                offset += len(row.raw)
        self._size += size
        return rows

    def sync(self) -> None:
        """Return when all written rows survive a loss of power. Raises OSError."""
        if self._file:
            self._file.sync()

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
