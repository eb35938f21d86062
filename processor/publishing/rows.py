"""Reads whole rows from a local file that may be growing."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from processor.output.block_reader import row_entry

PART_BYTES = 16 << 20
"""A part has at most so many, or one row. It is held in memory while it is sent."""


def file_size(path: Path) -> int:
    """Return the size in bytes; 0 where there is no file. Raises OSError."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def read_rows(path: Path, start: int, end: int, limit: int = PART_BYTES) -> bytes:
    """Return the whole lines between two positions, from the first on: ``limit`` bytes at most, or one line.

    An incomplete last line is left out. Raises OSError.
    """
    if end <= start:
        return b""
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read(min(limit, end - start))
        if b"\n" not in data:
            data += file.readline(end - start - len(data))
    return data[: data.rfind(b"\n") + 1]


def read_bytes(path: Path, start: int, size: int) -> bytes:
    """Return up to ``size`` bytes from a position; none where there is no file. Raises OSError."""
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(size)
    except FileNotFoundError:
        return b""


def without_damage(lines: bytes, *, replies: bool) -> bytes:
    """Return the lines that are rows. A crash may have left others, which the next run takes out of the file."""
    return b"".join(line for line in BytesIO(lines) if row_entry(line, replies=replies) is not None)
