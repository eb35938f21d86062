"""The parser of a response's body that is an event stream. No I/O."""

from __future__ import annotations

from collections.abc import Set
from time import perf_counter

from processor.core.errors import ProtocolError
from processor.core.models import JSON
from processor.http.response_body import media_type, too_large, wrong_type
from processor.protocols import Accumulator, SseDecoder

FLUSH_BYTES = 4 * 1024
"""A stream is parsed in pieces of this size: a large piece costs little more than a small one."""
MANY_STREAMS = 1000
FLUSH_BYTES_OF_MANY = 1024
"""With so many streams at a time, each buffers less."""

LARGE_EVENT_BYTES = 64 * 1024
LARGE_STREAM_BYTES = 1024 * 1024
"""Parsing a larger event, or assembling a larger reply, may take longer than others can wait."""
MAX_HOLD_S = 0.02
"""So long the events of one read may hold up the event loop."""
_EVENTS_PER_STEP = 256

_MIN_BUFFERED_BYTES = 64


def flush_threshold(streams: int) -> int:
    """How many bytes one more stream buffers while so many others are in flight."""
    return FLUSH_BYTES if streams < MANY_STREAMS else FLUSH_BYTES_OF_MANY


class SseParser:
    """An event stream.

    Once a reply has begun, its bytes are buffered up to ``flush_threshold`` and then parsed together; with ``live``
    each piece is parsed at once.
    """

    __slots__ = (
        "_backlog",
        "_buffer",
        "_buffered_bytes",
        "_bytes_left",
        "_content_type",
        "_decoder",
        "_end_marker",
        "_first_bytes",
        "_flush_threshold",
        "_has_events",
        "_live",
        "_max_bytes",
        "_undecoded",
        "accumulator",
        "has_backlog",
    )

    def __init__(
        self,
        accumulator: Accumulator,
        *,
        end_marker: bytes,
        max_bytes: int,
        content_type: str,
        live: bool = False,
        flush_threshold: int = FLUSH_BYTES,
    ) -> None:
        self.accumulator = accumulator
        self._end_marker = end_marker
        self._live = live
        self._flush_threshold = flush_threshold
        self._decoder = SseDecoder()
        self._max_bytes = self._bytes_left = max_bytes
        self._content_type = content_type
        self._first_bytes = b""
        self._has_events = False
        self._buffer: list[bytes] = []
        """Not parsed yet."""
        self._buffered_bytes = 0
        self.has_backlog = False
        self._undecoded = b""
        self._backlog: list[bytes] = []
        """Events that the accumulator has not got yet."""

    @property
    def altered(self) -> Set[str]:
        return self.accumulator.altered

    @property
    def is_done(self) -> bool:
        return self.accumulator.saw_end_marker

    @property
    def is_complete(self) -> bool:
        self._flush_all()
        return self.accumulator.is_complete

    @property
    def is_large(self) -> bool:
        return self._max_bytes - self._bytes_left > LARGE_STREAM_BYTES

    def feed(self, data: bytes) -> bool:
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise too_large(self._max_bytes)
        self._buffer.append(data)
        self._buffered_bytes += len(data)
        if self._should_buffer(data):
            return False
        self._flush()
        return True

    def close(self) -> None:
        self._flush_all()
        self._take(self._decoder.finish())

    def work_off(self) -> None:
        self.has_backlog = False
        events, self._backlog = self._backlog, []
        self.accumulator.feed(events)
        data, self._undecoded = self._undecoded, b""
        if data:
            self._take(self._decoder.feed(data))

    def result(self) -> JSON:
        self._flush_all()
        if self._bytes_left == self._max_bytes:
            raise ProtocolError("the reply is empty")
        if not self._has_events and media_type(self._content_type) != "text/event-stream":
            raise wrong_type(self._content_type, self._first_bytes)
        return self.accumulator.result()

    def _should_buffer(self, data: bytes) -> bool:
        """After the first token only the end of a reply has to be noticed at once. A short piece may be the second half
        of the end marker."""
        return (
            self.accumulator.has_content
            and not self._live
            and self._buffered_bytes < self._flush_threshold
            and len(data) >= _MIN_BUFFERED_BYTES
            and self._end_marker not in data
        )

    def _flush(self) -> None:
        if not self._buffer:
            return
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._buffered_bytes = 0
        if self._decoder.unfinished_bytes > LARGE_EVENT_BYTES and b"\n" in data:
            self._undecoded = data
            self.has_backlog = True
            return
        events = self._decoder.feed(data)
        if events:
            self._take(events)
        elif not self._first_bytes:
            self._first_bytes = data

    def _flush_all(self) -> None:
        self._flush()
        while self.has_backlog:
            self.work_off()

    def _take(self, events: list[bytes]) -> None:
        """Give the events to the accumulator; what is left of them after a while becomes the backlog."""
        if not events:
            return
        self._has_events = True
        if len(events) <= _EVENTS_PER_STEP:
            self.accumulator.feed(events)
            return
        hold_until = perf_counter() + MAX_HOLD_S
        for start in range(0, len(events), _EVENTS_PER_STEP):
            if perf_counter() > hold_until:
                self._backlog = events[start:]
                self.has_backlog = True
                return
            self.accumulator.feed(events[start : start + _EVENTS_PER_STEP])
