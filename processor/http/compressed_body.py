"""The parser of a compressed body: decodes it for the parser of what is in it. No I/O."""

from __future__ import annotations

from collections.abc import Set

from processor.core.models import JSON
from processor.http.content_coding import ContentDecoder
from processor.http.response_body import ResponseParser
from processor.protocols import Accumulator

_BYTES_AT_ONCE = 256 * 1024
"""So much is decoded and parsed in one step."""


class CompressedParser:
    """``inner`` parses what is decoded, and counts its bytes before the next ones are decoded. It may be replaced once
    the first bytes have shown what it is."""

    def __init__(self, decoder: ContentDecoder, inner: ResponseParser) -> None:
        self.inner = inner
        self._decoder = decoder
        self._has_more = False
        """The decoder may have another piece."""

    @property
    def accumulator(self) -> Accumulator | None:
        return self.inner.accumulator

    @property
    def altered(self) -> Set[str]:
        return self.inner.altered

    @property
    def is_done(self) -> bool:
        return self.inner.is_done

    @property
    def is_complete(self) -> bool:
        return self.inner.is_complete

    @property
    def is_large(self) -> bool:
        return self.inner.is_large

    @property
    def has_backlog(self) -> bool:
        return self._has_more or self.inner.has_backlog

    def feed(self, data: bytes) -> bool:
        self._decoder.put(data)
        self._decode()
        return True

    def work_off(self) -> None:
        if self.inner.has_backlog:
            self.inner.work_off()
        else:
            self._decode()

    def close(self) -> None:
        while self.has_backlog:
            self.work_off()
        for piece in self._decoder.finish():
            self._parse(piece)
        self.inner.close()

    def result(self) -> JSON:
        return self.inner.result()

    def _decode(self) -> None:
        bytes_left = _BYTES_AT_ONCE
        self._has_more = False
        while not self.inner.is_done and not self.inner.has_backlog and (piece := self._decoder.next_piece()):
            self.inner.feed(piece)
            bytes_left -= len(piece)
            if bytes_left <= 0:
                self._has_more = True
                return
        self._has_more = self.inner.has_backlog

    def _parse(self, piece: bytes) -> None:
        self.inner.feed(piece)
        while self.inner.has_backlog:
            self.inner.work_off()
