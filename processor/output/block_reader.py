"""Reading the journal's files in blocks: any size, in constant memory (but for the longest line)."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from itertools import accumulate
from pathlib import Path

from processor.output.index_entry import FLAGS_AT, REPLIED, IndexEntry, read_packed, unpacked
from processor.output.storage import LocalStorage, StorageFile

BLOCK_BYTES = 1 << 20
CHUNK_BYTES = 1 << 16
"""Small enough to stay in a processor's cache until it is parsed."""
REST_BYTES = 1 << 14
"""Read at a time to reach the end of the last line."""
MAX_NAMED = 100
"""So many damaged lines are named; more are only counted."""

_HEAD = re.compile(rb'\{"id":"[0-9a-f]{32}"')
_TEMPLATE = b'{"id":"' + b"0" * 32 + b'"'


ByteSpan = tuple[int, int]
"""``start <= at < end``"""


@dataclass(slots=True)
class Block:
    """What the lines that begin in one part of a file say."""

    entries: bytes = b""
    """Packed, in the order of the lines."""
    lines: int = 0
    damaged: int = 0
    damaged_lines: list[int] = field(default_factory=list)
    """The first MAX_NAMED of them, counted from 1 in this block."""
    foreign: int = 0
    """Damaged lines that do not even begin as a row does."""
    torn_bytes: int = 0
    """The length of a last line that is broken off."""
    unended: bool = False
    """The last row is whole, only its line feed is missing."""


def spans(size: int) -> Iterator[ByteSpan]:
    return ((start, start + BLOCK_BYTES) for start in range(0, size, BLOCK_BYTES))


def blocks(file: StorageFile, *, replies: bool) -> Generator[Block, None, None]:
    """All of a file, in its order. Raises OSError."""
    return (read_block(file, start, end, replies=replies) for start, end in spans(file.size()))


def lines(file: StorageFile, start: int, end: int) -> Iterator[list[bytes]]:
    """The lines whose first byte is in ``start <= at < end``, with their line feeds, many at a time.

    Only the last line of a file may have none. Raises OSError.
    """
    at = begin = max(start - 1, 0)
    skipping = start > 0
    parts: list[bytes] = []
    while chunk := file.read(at, min(CHUNK_BYTES, max(end - at, REST_BYTES))):
        at += len(chunk)
        parts.append(chunk)
        if b"\n" in chunk:
            whole = BytesIO(b"".join(parts)).readlines()  # split() looks at every byte, and takes six times as long
            parts = [] if whole[-1].endswith(b"\n") else [whole.pop()]
            if skipping:
                begin += len(whole.pop(0))
                skipping = False
            next_begin = at - sum(map(len, parts))
            if next_begin >= end:
                yield _beginning_before(end - begin, whole)
                return
            begin = next_begin
            yield whole
        elif skipping and at >= end:
            return
    if parts and begin < end and not skipping:
        yield [b"".join(parts)]


def _beginning_before(end: int, whole: list[bytes]) -> list[bytes]:
    begins = accumulate(map(len, whole), initial=0)
    return [raw for raw, begin in zip(whole, begins, strict=False) if begin < end]


def packed_in(raw: bytes, *, replies: bool) -> bytes | None:
    """The row that a line is, packed, or None where it does not belong in a file of replies, or of failures."""
    try:
        packed = read_packed(raw)
    except ValueError:
        return None
    return packed if bool(packed[FLAGS_AT] & REPLIED) is replies else None


def entry_in(raw: bytes, *, replies: bool) -> IndexEntry | None:
    packed = packed_in(raw, replies=replies)
    return None if packed is None else unpacked(packed)


def read_block(file: StorageFile, start: int, end: int, *, replies: bool) -> Block:
    """Raises OSError."""
    block = Block()
    rows = []
    raw, packed = b"", None
    for raws in lines(file, start, end):
        for number, raw in enumerate(raws, block.lines + 1):
            packed = packed_in(raw, replies=replies)
            if packed is not None:
                rows.append(packed)
            elif raw.strip():
                _note_damage(block, raw, number)
        block.lines += len(raws)
    block.unended = packed is not None and not raw.endswith(b"\n")
    block.entries = b"".join(rows)
    return block


def read_span(path: Path, replies: bool, span: ByteSpan) -> Block:
    """Like ``read_block``, in any process."""
    with closing(LocalStorage().open(path, "read")) as file:
        return read_block(file, *span, replies=replies)


def _note_damage(block: Block, raw: bytes, number: int) -> None:
    block.foreign += not _begins_as_a_row(raw)
    if not raw.endswith(b"\n"):
        block.torn_bytes = len(raw)
        return
    block.damaged += 1
    if block.damaged <= MAX_NAMED:
        block.damaged_lines.append(number)


def _begins_as_a_row(raw: bytes) -> bool:
    # After a loss of power some file systems leave zeros where the data should be.
    raw = raw.removesuffix(b"\n").rstrip(b"\0")
    return bool(_HEAD.match(raw[: len(_TEMPLATE)] + _TEMPLATE[len(raw) :]))
