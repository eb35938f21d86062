"""Appending whole lines, in groups: the rows that finish in one turn of the event loop go out in one write."""

from __future__ import annotations

import errno
from asyncio import Future
from dataclasses import dataclass
from pathlib import Path

from processor.output.compaction import write_all
from processor.output.index_entry import IndexEntry
from processor.output.storage import Storage, StorageFile


@dataclass(frozen=True, slots=True)
class Pending:
    raw: bytes
    entry: IndexEntry
    written: Future[None]


class Appender:
    """One file that only grows. It is created by the first write to it."""

    def __init__(self, disk: Storage, path: Path) -> None:
        self.path = path
        self.pending: list[Pending] = []
        self._disk = disk
        self._file: StorageFile | None = None
        self._size = 0

    def open(self) -> StorageFile:
        """Raises OSError."""
        if self._file is None:
            self._file = self._disk.open(self.path, "append")
            self._size = self._file.size()
            if not self._size:
                # New, or left by a run that ended before this.
                self._disk.sync_folder(self.path)
        return self._file

    def flush(self) -> tuple[list[Pending], OSError | None]:
        """Write what is pending. Returns the rows that are whole in the file now, and why others are not."""
        try:
            file = self.open()
        except OSError as error:
            return [], error
        try:
            write_all(file, b"".join(item.raw for item in self.pending))
            self.check()
        except FileNotFoundError as error:
            return [], error
        except OSError as error:
            return self._salvage(file), error
        return self._take(len(self.pending)), None

    def check(self) -> None:
        """Writing to a file that somebody deleted fails nowhere. Raises FileNotFoundError for it."""
        if self._file and self._file.is_deleted():
            raise FileNotFoundError(errno.ENOENT, "it has been deleted")

    def _salvage(self, file: StorageFile) -> list[Pending]:
        """After a failed write: keep the rows that came out whole, and cut the torn one off.

        Should that fail, too, the next run does it.
        """
        whole = 0
        try:
            room = file.size() - self._size
            while whole < len(self.pending) and len(self.pending[whole].raw) <= room:
                room -= len(self.pending[whole].raw)
                whole += 1
            if room:
                file.truncate(file.size() - room)
        except OSError:
            pass
        return self._take(whole)

    def _take(self, count: int) -> list[Pending]:
        taken, self.pending = self.pending[:count], self.pending[count:]
        self._size += sum(len(item.raw) for item in taken)
        return taken

    def sync(self) -> None:
        """Raises OSError."""
        if self._file:
            self._file.sync()

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
