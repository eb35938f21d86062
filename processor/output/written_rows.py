"""Reads the rows of jobs back from the files of an output, also while a run appends to them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from processor.core.errors import OutputError
from processor.core.job_keys import job_key
from processor.core.json_reading import exact_fields, fields_of
from processor.core.models import JSON
from processor.output.block_reader import BLOCK_BYTES, READ_BYTES, read_lines
from processor.output.index_entry import INVALID_LINE, IndexEntry, parse_entry
from processor.output.results_file import ResultsFile
from processor.output.row_positions import RowPosition, RowPositions
from processor.output.storage import Storage, StorageFile, as_output_error

_PLAIN_ROW = re.compile(rb'\{"id":"[0-9a-f]{32}","custom_id":"([ !#-\[\]-~]+)",')
"""How a row begins that this program has written, where its id has no escapes and no characters beyond ASCII."""


class WrittenRows:
    """Knows where each row of an open results file begins: those that were there, and those that are appended."""

    def __init__(self, results: ResultsFile) -> None:
        """Read the files once. Raises OutputError."""
        self._storage = results.storage
        self._positions = RowPositions()
        self._paths = (results.paths.replies, results.paths.failures)
        # Failures first: a reply counts before them, whichever was written later.
        for path, is_failure in zip(reversed(self._paths), (True, False), strict=True):
            with as_output_error(path):
                self._load(path, is_failure)
        for appender, is_failure in zip(results.appenders, (False, True), strict=True):
            appender.on_written = partial(self._add, is_failure)

    def find(self, custom_id: str) -> JSON:
        """Return the row of a job that has one. Raises OutputError where it cannot be read, or is gone."""
        path = self._paths[0]
        for position in self._positions.find(job_key(custom_id)):
            path = self._paths[position.is_failure]
            with as_output_error(path):
                row = row_at(self._storage, path, position, custom_id)
            if row is not None:
                return row
        raise OutputError(f"another program has changed {path}: the row of {custom_id!r} is not where it was written")

    def _add(self, is_failure: bool, entry: IndexEntry, offset: int) -> None:
        if not entry.flags & INVALID_LINE:
            self._positions.add(entry.key, RowPosition(is_failure, offset))

    def _load(self, path: Path, is_failure: bool) -> None:
        if not self._storage.exists(path):
            return
        with closing(self._storage.open(path, "read")) as file:
            offset, size = 0, file.size()
            for begin in range(0, size, BLOCK_BYTES):
                for lines in read_lines(file, begin, begin + BLOCK_BYTES):
                    for raw in lines:
                        if (key := _key_of(raw)) is not None:
                            self._positions.add(key, RowPosition(is_failure, offset))
                        offset += len(raw)


def _key_of(raw: bytes) -> bytes | None:
    """Return the key of the job that a row belongs to; None for other lines. A line that is no job may have one."""
    if match := _PLAIN_ROW.match(raw):
        return job_key(match[1].decode())
    with suppress(ValueError):
        entry = parse_entry(raw)
        return None if entry.flags & INVALID_LINE else entry.key
    return None


def row_at(storage: Storage, path: Path, position: RowPosition, custom_id: str) -> JSON | None:
    """Return the row that begins at this position of a file; None where it is not that of the job. Raises OSError."""
    raw = _line_at(storage, path, position.offset)
    row = _row_of(raw)
    name = row.get("custom_id")
    is_other_job = (str(name) if type(name) is int else name) != custom_id
    if is_other_job or (position.is_failure and _is_of_invalid_line(raw)):
        return None
    return row


def _is_of_invalid_line(raw: bytes) -> bool:
    try:
        return bool(parse_entry(raw).flags & INVALID_LINE)
    except ValueError:
        return True


def _row_of(raw: bytes) -> JSON:
    if row := exact_fields(raw):
        return row
    with suppress(ValueError):  # an unpaired surrogate
        return fields_of(json.loads(raw))
    return {}


def _line_at(storage: Storage, path: Path, offset: int) -> bytes:
    """Return the line that begins at this position. Raises OSError."""
    with closing(storage.open(path, "read")) as file:
        return b"".join(_pieces(file, offset))


def _pieces(file: StorageFile, offset: int) -> Iterator[bytes]:
    while piece := file.read(offset, READ_BYTES):
        line, newline, _ = piece.partition(b"\n")
        yield line + newline
        if newline:
            return
        offset += len(piece)
