"""Bytes → lines, whatever the chunks, with a bound on what a single line may hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from io import BytesIO
from typing import NamedTuple

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DIGEST_BYTES = 16


class Line(NamedTuple):
    """One line without its line end. ``data`` is None where it was too long to keep; ``digest`` then stands for it."""

    number: int
    data: bytes | None
    digest: str = ""
    size: int = 0


class LineSplitter:
    """Splits chunks into lines; a line longer than ``max_bytes`` is hashed as it passes, never held."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._number = 0
        self._tail = bytearray()
        self._overlong: hashlib.blake2b | None = None
        self._overlong_size = 0
        self._overlong_blank = True

    def feed(self, chunk: bytes) -> list[Line]:
        """The lines that this chunk completes; blank ones are counted and left out."""
        head, newline, rest = chunk.partition(b"\n")
        if not newline:
            self._hold(chunk)
            return []
        self._hold(head)
        lines = [self._finish()]
        pieces = rest.split(b"\n")
        tail = pieces.pop()
        lines.extend(map(self._whole, pieces))
        self._hold(tail)
        return [line for line in lines if line is not None]

    def finish(self) -> Line | None:
        """The last line, where the file does not end in a newline."""
        return self._finish() if self._tail or self._overlong else None

    @property
    def number(self) -> int:
        """Of the last line fed, or skipped."""
        return self._number

    def skip(self, lines: int) -> None:
        """So many lines are not fed. To be called between two lines."""
        self._number += lines

    def _whole(self, data: bytes) -> Line | None:
        if len(data) > self._max_bytes:
            self._hold(data)
            return self._finish()
        self._number += 1
        data = data.strip()
        return Line(self._number, data) if data else None

    def _hold(self, piece: bytes) -> None:
        if self._overlong is None and len(self._tail) + len(piece) <= self._max_bytes:
            self._tail += piece
            return
        if self._overlong is None:
            self._overlong = hashlib.blake2b(digest_size=DIGEST_BYTES)
            self._overlong_size, self._overlong_blank = 0, True
            self._pass(bytes(self._tail))
            self._tail.clear()
        self._pass(piece)

    def _pass(self, piece: bytes) -> None:
        assert self._overlong is not None
        self._overlong.update(piece)
        self._overlong_size += len(piece)
        self._overlong_blank = self._overlong_blank and not piece.strip()

    def _finish(self) -> Line | None:
        data = bytes(self._tail)
        self._tail.clear()
        if self._number == 0:
            data = data.removeprefix(BYTE_ORDER_MARK)
        if self._overlong is None:
            return self._whole(data)
        overlong, self._overlong = self._overlong, None
        self._number += 1
        return None if self._overlong_blank else Line(self._number, None, overlong.hexdigest(), self._overlong_size)


def count_lines(chunks: Iterable[bytes]) -> int:
    """How many lines hold something, as ``LineSplitter`` finds them. A mark is cut by no chunk's end."""
    lines, holds, mark = 0, False, BYTE_ORDER_MARK
    for chunk in chunks:
        pieces = BytesIO(chunk.removeprefix(mark)).readlines()  # split() takes four times as long
        mark = b""
        blank = list(map(bytes.isspace, pieces))
        if holds and blank:
            blank[0] = False
        holds = bool(blank) and not pieces[-1].endswith(b"\n") and not blank.pop()
        lines += blank.count(False)
    return lines + holds
