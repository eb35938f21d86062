"""Rewriting a file of the journal: the rows that stay, in their order, and nothing in between is ever visible."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from processor.results.disk import Disk, File
from processor.results.rows import Row
from processor.results.scan import CHUNK_BYTES, read_rows

Keeps = Callable[[Row, bytes], bool]


def compact(disk: Disk, path: Path, *, replies: bool, keeps: Keeps) -> int:
    """Write the rows that stay to a new file and put it in the place of the old one. Returns how many they are."""
    fresh = beside(path)
    old = disk.open(path, "read")
    try:
        stay = (line.raw for line in read_rows(old, replies=replies) if line.row and keeps(line.row, line.raw))
        count = _write(disk.open(fresh, "new"), stay)
    finally:
        old.close()
    disk.replace(fresh, path)
    return count


def keep_aside(disk: Disk, path: Path, damaged: Path, *, replies: bool) -> None:
    """Append the lines that are no rows to another file, so that ``compact`` loses none."""
    old = disk.open(path, "read")
    try:
        aside = (line.raw for line in read_rows(old, replies=replies) if line.ended and not line.row)
        _write(disk.open(damaged, "append"), aside)
    finally:
        old.close()
    disk.sync_folder(damaged)


def beside(path: Path) -> Path:
    """The temporary file. What a crash left there is of no use."""
    return path.with_name(path.name + ".compacting")


def write_all(file: File, data: bytes) -> None:
    """Complete short writes. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _write(file: File, rows: Iterable[bytes]) -> int:
    count = 0
    buffer = bytearray()
    try:
        for count, row in enumerate(rows, 1):  # noqa: B007
            buffer += row
            buffer += b"\n"
            if len(buffer) >= CHUNK_BYTES:
                write_all(file, bytes(buffer))
                buffer.clear()
        write_all(file, bytes(buffer))
        file.sync()
    finally:
        file.close()
    return count
