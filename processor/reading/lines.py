"""Bytes → lines, whatever the chunks, with a bound on what a single line may hold."""

from __future__ import annotations

import hashlib
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
        self._tail = b""
        self._overlong: hashlib.blake2b | None = None
        self._overlong_size = 0

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
            self._overlong = hashlib.blake2b(self._tail, digest_size=DIGEST_BYTES)
            self._overlong_size = len(self._tail)
            self._tail = b""
        self._overlong.update(piece)
        self._overlong_size += len(piece)

    def _finish(self) -> Line | None:
        data, self._tail = self._tail, b""
        if self._number == 0:
            data = data.removeprefix(BYTE_ORDER_MARK)
        if self._overlong is None:
            return self._whole(data)
        overlong, self._overlong = self._overlong, None
        self._number += 1
        return Line(self._number, None, overlong.hexdigest(), self._overlong_size)
