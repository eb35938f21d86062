"""Reads the rows that other sessions append to their results files, which stand in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from processor.core.job_keys import job_key
from processor.core.models import JSON
from processor.core.money import RowCosts
from processor.output.block_reader import BLOCK_BYTES, packed_entry, read_lines
from processor.output.in_flight_log import read_spent
from processor.output.index_entry import INVALID_LINE, SIMULATED, RunTarget, unpack_entry
from processor.output.job_index import JobIndex
from processor.output.paths import OutputPaths
from processor.output.row_positions import RowPosition, RowPositions
from processor.output.storage import LocalStorage, StorageFile
from processor.output.written_rows import row_at

_OFFSET_BITS = 36
"""Of a position, those above them are the number of the file: 2048 files of up to 64 GiB."""
_MAX_FILES = 1 << 11


@dataclass(slots=True, eq=False)
class _OtherFile:
    """One results or errors file of another session, and how far it has been read."""

    path: Path
    is_failure: bool
    number: int
    offset: int = 0
    file_id: tuple[int, int] | None = None
    """A file that was compacted is another one, and is read from its beginning."""
    costs: RowCosts = field(default_factory=RowCosts)
    """Of all its rows."""


@dataclass(slots=True, kw_only=True)
class NewRows:
    """What was appended to one file since it was last read."""

    entries: list[bytes] = field(default_factory=list)
    """The packed index entries of its rows."""
    positions: list[tuple[bytes, RowPosition]] = field(default_factory=list)
    """The key and the position of each."""


class RowsOfOthers:
    """The rows of other sessions, by job. ``index`` holds what is known of each job.

    ``read_new`` reads, in any thread; ``add`` takes over what it has read, in the thread that uses the index.
    """

    def __init__(self, target: RunTarget) -> None:
        self.index = JobIndex()
        self._target = target
        self._storage = LocalStorage()
        self._positions = RowPositions()
        self._files: dict[Path, _OtherFile] = {}
        self._by_number: list[_OtherFile] = []

    def read_new(self, results: Sequence[Path]) -> list[NewRows]:
        """Return what was appended to these results files, and to their errors files, since the last call.

        A file that cannot be read now is left for the next call.
        """
        found = []
        for path in results:
            paths = OutputPaths.of(path)
            for part, is_failure in ((paths.replies, False), (paths.failures, True)):
                with suppress(OSError):
                    found.append(self._read(self._file(part, is_failure)))
        return found

    def add(self, new: Sequence[NewRows]) -> None:
        for rows in new:
            self.index.load_rows(b"".join(rows.entries))
            for key, position in rows.positions:
                self._positions.add(key, position)

    def find(self, custom_id: str) -> JSON | None:
        """Return the row of a job; None where its file has been compacted since, or cannot be read."""
        found = sorted(self._positions.find(job_key(custom_id)), key=lambda position: position.is_failure)
        for position in found:  # a reply counts before a failure
            file = self._by_number[position.offset >> _OFFSET_BITS]
            place = RowPosition(position.is_failure, position.offset & ((1 << _OFFSET_BITS) - 1))
            with suppress(OSError):
                if (row := row_at(self._storage, file.path, place, custom_id)) is not None:
                    return row
        return None

    def spent_pico(self, results: Path) -> int:
        """Return what was spent for an output, in 1e-12 USD, by its rows that were read, and by its state file: there
        also what requests in flight cost at most. Where it cannot be read, that counts as nothing."""
        paths = OutputPaths.of(results)
        spent = sum(self._files[path].costs.pico for path in (paths.replies, paths.failures) if path in self._files)
        with suppress(OSError):
            spent += read_spent(self._storage, paths.state, self.index.has_attempts)
        return spent

    def _file(self, path: Path, is_failure: bool) -> _OtherFile:
        file = self._files.get(path)
        if file is None:
            if len(self._by_number) == _MAX_FILES:
                raise OSError(f"more than {_MAX_FILES} files")
            file = self._files[path] = _OtherFile(path, is_failure, len(self._by_number))
            self._by_number.append(file)
        return file

    def _read(self, file: _OtherFile) -> NewRows:
        new = NewRows()
        status = file.path.stat()
        if file.file_id != (status.st_dev, status.st_ino) or status.st_size < file.offset:
            file.file_id, file.offset, file.costs = (status.st_dev, status.st_ino), 0, RowCosts()
        if status.st_size > file.offset:
            with closing(self._storage.open(file.path, "read")) as opened:
                self._read_on(file, opened, min(opened.size(), 1 << _OFFSET_BITS), new)
        return new

    def _read_on(self, file: _OtherFile, opened: StorageFile, size: int, new: NewRows) -> None:
        for begin in range(file.offset, size, BLOCK_BYTES):
            for lines in read_lines(opened, begin, min(begin + BLOCK_BYTES, size)):
                for raw in lines:
                    if not raw.endswith(b"\n"):  # it is still being written
                        return
                    self._add_line(file, raw, new)
                    file.offset += len(raw)

    def _add_line(self, file: _OtherFile, raw: bytes, new: NewRows) -> None:
        packed = packed_entry(raw, replies=not file.is_failure, target=self._target, costs=file.costs)
        if packed is None or (entry := unpack_entry(packed)).flags & (INVALID_LINE | SIMULATED):
            return
        new.entries.append(packed)
        new.positions.append((entry.key, RowPosition(file.is_failure, file.number << _OFFSET_BITS | file.offset)))
