"""Reads a file of rows in blocks. Memory does not depend on the size of the file, but for its longest line."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from itertools import accumulate
from pathlib import Path

from processor.core.models import ByteRange
from processor.core.money import RowCosts
from processor.output.index_entry import (
    ANY_TARGET,
    FLAGS_OFFSET,
    REPLIED,
    IndexEntry,
    RunTarget,
    parse_packed_entry,
    unpack_entry,
)
from processor.output.storage import LocalStorage, StorageFile

BLOCK_BYTES = 1 << 20
READ_BYTES = 1 << 16
"""Read at a time: small enough to stay in the processor's cache until it is parsed."""
LINE_END_READ_BYTES = 1 << 14
"""Read at a time to find the end of a line that extends beyond its block."""
MAX_LISTED_LINES = 100
"""Damaged lines of which the numbers are kept; further ones are only counted."""

_ROW_START = re.compile(rb'\{"id":"[0-9a-f]{32}"')
_ROW_START_TEMPLATE = b'{"id":"' + b"0" * 32 + b'"'


@dataclass(slots=True, kw_only=True)
class ScannedBlock:
    """What was found in the lines that start in one part of a file."""

    entries: bytes = b""
    """The packed index entries of its rows, in the order of the lines."""
    lines: int = 0
    damaged: int = 0
    """Complete lines that are not rows."""
    damaged_lines: list[int] = field(default_factory=list)
    """The numbers of the first MAX_LISTED_LINES of them, counted from 1 in this block."""
    not_a_row: int = 0
    """Damaged lines that do not even start as a row does."""
    torn_bytes: int = 0
    """The length of an incomplete last line."""
    missing_newline: bool = False
    """The last line is a row without its line feed."""
    costs: RowCosts = field(default_factory=RowCosts)


def block_ranges(size: int) -> Iterator[ByteRange]:
    """Yield the ranges of the blocks of a file with this size."""
    return ((start, start + BLOCK_BYTES) for start in range(0, size, BLOCK_BYTES))


def read_blocks(
    file: StorageFile, *, replies: bool, target: RunTarget = ANY_TARGET
) -> Generator[ScannedBlock, None, None]:
    """Yield all blocks of a file, in order. Raises OSError."""
    return (read_block(file, start, end, replies=replies, target=target) for start, end in block_ranges(file.size()))


def read_lines(file: StorageFile, start: int, end: int) -> Iterator[list[bytes]]:
    """Yield the lines whose first byte is in ``start <= position < end``, with their line feeds, many at a time.

    Only the last line of a file may have no line feed. Raises OSError.
    """
    at = first = max(start - 1, 0)
    is_skipping = start > 0
    parts: list[bytes] = []
    while chunk := file.read(at, min(READ_BYTES, max(end - at, LINE_END_READ_BYTES))):
        at += len(chunk)
        parts.append(chunk)
        if b"\n" in chunk:
            whole = BytesIO(b"".join(parts)).readlines()  # six times as fast as split()
            parts = [] if whole[-1].endswith(b"\n") else [whole.pop()]
            if is_skipping:
                first += len(whole.pop(0))
                is_skipping = False
            next_first = at - sum(map(len, parts))
            if next_first >= end:
                yield _lines_starting_before(end - first, whole)
                return
            first = next_first
            yield whole
        elif is_skipping and at >= end:
            return
    if parts and first < end and not is_skipping:
        yield [b"".join(parts)]


def _lines_starting_before(end: int, lines: list[bytes]) -> list[bytes]:
    starts = accumulate(map(len, lines), initial=0)
    return [raw for raw, start in zip(lines, starts, strict=False) if start < end]


def packed_entry(
    raw: bytes, *, replies: bool, target: RunTarget = ANY_TARGET, costs: RowCosts | None = None
) -> bytes | None:
    """Return the packed index entry of a line; None where it is not a row, or belongs in the other file.

    Adds the cost of the row to ``costs``.
    """
    try:
        packed = parse_packed_entry(raw, target, costs)
    except ValueError:
        return None
    return packed if bool(packed[FLAGS_OFFSET] & REPLIED) is replies else None


def row_entry(raw: bytes, *, replies: bool) -> IndexEntry | None:
    """Return the index entry of a line; None as in ``packed_entry``."""
    packed = packed_entry(raw, replies=replies)
    return None if packed is None else unpack_entry(packed)


def read_block(
    file: StorageFile, start: int, end: int, *, replies: bool, target: RunTarget = ANY_TARGET
) -> ScannedBlock:
    """Parse the lines that start in this range. Raises OSError."""
    block = ScannedBlock()
    entries = []
    raw, packed = b"", None
    for raws in read_lines(file, start, end):
        for number, raw in enumerate(raws, block.lines + 1):
            packed = packed_entry(raw, replies=replies, target=target, costs=block.costs)
            if packed is not None:
                entries.append(packed)
            elif raw.strip():
                _record_damage(block, raw, number)
        block.lines += len(raws)
    block.missing_newline = packed is not None and not raw.endswith(b"\n")
    block.entries = b"".join(entries)
    return block


def read_block_of_path(path: Path, replies: bool, target: RunTarget, block_range: ByteRange) -> ScannedBlock:
    """Do the same as ``read_block`` with arguments that can be sent to another process."""
    with closing(LocalStorage().open(path, "read")) as file:
        return read_block(file, *block_range, replies=replies, target=target)


def _record_damage(block: ScannedBlock, raw: bytes, number: int) -> None:
    block.not_a_row += not _starts_as_a_row(raw)
    if not raw.endswith(b"\n"):
        block.torn_bytes = len(raw)
        return
    block.damaged += 1
    if block.damaged <= MAX_LISTED_LINES:
        block.damaged_lines.append(number)


def _starts_as_a_row(raw: bytes) -> bool:
    # After a loss of power some file systems leave zeros where the data should be.
    raw = raw.removesuffix(b"\n").rstrip(b"\0")
    return bool(_ROW_START.match(raw[: len(_ROW_START_TEMPLATE)] + _ROW_START_TEMPLATE[len(raw) :]))
