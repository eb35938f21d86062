"""Finds the row of one job in the files of an output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from processor.core.fast_dataclass import dataclass
from processor.core.json_reading import fields_of, parsed
from processor.core.models import JSON
from processor.output.backward_reader import lines_backward
from processor.output.paths import OutputPaths


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """The row of a job, and the file in which it stands."""

    row: JSON
    path: Path


def find_row(
    paths: OutputPaths, *, custom_id: str | None = None, line: int | None = None, file: str | None = None
) -> FoundRow | None:
    """Return the row that counts of the job with this id, or of this line. Raises OSError.

    ``file``: the job file of the line; None: any. A reply counts before a failure, and the last row of
    a file before others.
    """
    name, value = ("custom_id", custom_id) if custom_id is not None else ("line", line)
    may_match = _contains(custom_id)
    for path in (paths.replies, paths.failures):
        if not path.exists():
            continue
        for raw in lines_backward(path):
            if not may_match(raw) or (row := fields_of(parsed(raw))).get(name) != value or "error" not in row:
                continue
            if file is None or row.get("file") == file:
                return FoundRow(row=row, path=path)
    return None


def _contains(custom_id: str | None) -> Callable[[bytes], bool]:
    """A quick test that all rows with this id pass: most lines need not be parsed."""
    if custom_id is None or not custom_id.isascii() or not custom_id.isprintable() or set(custom_id) & set('"\\/'):
        return lambda raw: True
    part = custom_id.encode()
    return lambda raw: part in raw
