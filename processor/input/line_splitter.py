"""Splits chunks of bytes into lines, and bounds the memory of a single line."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable
from io import BytesIO
from typing import NamedTuple

CHUNK_BYTES = 64 * 1024
"""Read from a job file at a time."""
LINES_PER_TURN = 16
"""Lines that are handled in one turn of the event loop. A file of a million finished jobs must not delay a Ctrl-C, nor
may hundreds of connections be opened in one turn."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DIGEST_BYTES = 16
HEAD_BYTES = 4096
"""Kept of a line that is too long: usually its id is there."""


class Line(NamedTuple):
    """One line without surrounding white space. ``data`` is None where it was too long; then ``digest``,
    ``size`` and ``head`` are set."""

    number: int
    """From 1."""
    data: bytes | None
    digest: str = ""
    """32 hex digits, as ``raw_fingerprint`` gives for the data."""
    size: int = 0
    """In bytes."""
    head: bytes = b""
    """The first HEAD_BYTES of a line that was too long."""


class LineSplitter:
    """Splits chunks into lines. A line longer than ``max_bytes`` is hashed as it arrives, and not kept."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._number = 0
        self._tail = bytearray()
        self._overlong_hash: hashlib.blake2b | None = None
        self._overlong_size = 0
        self._overlong_head = b""
        self._is_overlong_blank = True

    def feed(self, chunk: bytes) -> list[Line]:
        """Return the lines that this chunk completes. Blank lines are counted and left out."""
        head, newline, rest = chunk.partition(b"\n")
        if not newline:
            self._append(chunk)
            return []
        self._append(head)
        lines = [self._end_line()]
        pieces = rest.split(b"\n")
        tail = pieces.pop()
        lines.extend(map(self._emit, pieces))
        self._append(tail)
        return [line for line in lines if line is not None]

    def finish(self) -> Line | None:
        """Return the last line, where the file does not end in a line feed."""
        return self._end_line() if self._tail or self._overlong_hash else None

    @property
    def number(self) -> int:
        """The number of the last line that was fed or skipped."""
        return self._number

    def skip(self, lines: int) -> None:
        """Count lines that are not fed. Call it between two lines."""
        self._number += lines

    def _emit(self, data: bytes) -> Line | None:
        if len(data) > self._max_bytes:
            self._append(data)
            return self._end_line()
        self._number += 1
        data = data.strip()
        return Line(self._number, data) if data else None

    def _append(self, piece: bytes) -> None:
        """Add a piece to the current line."""
        if self._overlong_hash is None and len(self._tail) + len(piece) <= self._max_bytes:
            self._tail += piece
            return
        if self._overlong_hash is None:
            self._overlong_hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
            self._overlong_size, self._overlong_head, self._is_overlong_blank = 0, b"", True
            self._hash_overlong(bytes(self._tail))
            self._tail.clear()
        self._hash_overlong(piece)

    def _hash_overlong(self, piece: bytes) -> None:
        assert self._overlong_hash is not None
        self._overlong_hash.update(piece)
        self._overlong_size += len(piece)
        self._overlong_head += piece[: HEAD_BYTES - len(self._overlong_head)]
        self._is_overlong_blank = self._is_overlong_blank and not piece.strip()

    def _end_line(self) -> Line | None:
        data = bytes(self._tail)
        self._tail.clear()
        if self._number == 0:
            data = data.removeprefix(BYTE_ORDER_MARK)
        if self._overlong_hash is None:
            return self._emit(data)
        overlong, self._overlong_hash = self._overlong_hash, None
        self._number += 1
        if self._is_overlong_blank:
            return None
        return Line(self._number, None, overlong.hexdigest(), self._overlong_size, self._overlong_head.lstrip())


def raise_if_cut(end: int, expected_end: int) -> None:
    """Raise OSError where a file ended before the position at which it ended when reading began.

    The line at its end is then none: call this before ``LineSplitter.finish``.
    """
    if end < expected_end:
        raise OSError(errno.ESTALE, "another program has cut the file while it was read")


def count_nonblank_lines(chunks: Iterable[bytes]) -> int:
    """Return how many lines ``LineSplitter`` would return. No chunk may end inside the byte order mark."""
    lines, is_line_open, mark = 0, False, BYTE_ORDER_MARK
    for chunk in chunks:
        pieces = BytesIO(chunk.removeprefix(mark)).readlines()  # four times as fast as split()
        mark = b""
        is_blank = list(map(bytes.isspace, pieces))
        if is_line_open and is_blank:
            is_blank[0] = False
        is_line_open = bool(is_blank) and not pieces[-1].endswith(b"\n") and not is_blank.pop()
        lines += is_blank.count(False)
    return lines + is_line_open
