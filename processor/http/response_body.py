"""Parsers of a response's body. No I/O: bytes go in, the body of the reply or an error comes out."""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from typing import Literal, Protocol

from processor.core.errors import ProtocolError, ReplyTooLarge
from processor.core.models import JSON
from processor.core.text import excerpt, one_line
from processor.protocols import Accumulator, SseDecoder, readable_text, repaired_json

MAX_ERROR_BYTES = 64 * 1024

FLUSH_BYTES = 4 * 1024
"""A stream is parsed in pieces of this size: a large piece costs little more than a small one."""
MANY_STREAMS = 1000
FLUSH_BYTES_OF_MANY = 1024
"""With so many streams at a time, each buffers less."""

_MIN_BUFFERED_BYTES = 64

BodyForm = Literal["events", "json", "page"]
_FORM_BY_BYTE: dict[bytes, BodyForm] = {b"{": "json", b"[": "json", b"<": "page"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_SNIFFED_BYTES = 64 * 1024
"""So much white space is no beginning of JSON."""
_END_MARKER_BEHIND = re.compile(rb"\s*\ndata: ?\[DONE\]\s*\Z")


class ResponseParser(Protocol):
    @property
    def altered(self) -> Set[str]:
        """What had to be changed of the reply, once ``result`` has returned."""

    @property
    def is_done(self) -> bool:
        """Bytes that follow do not matter."""

    @property
    def is_complete(self) -> bool:
        """Nothing of the reply is missing, should the response break off here. Raises RequestError."""

    def feed(self, data: bytes) -> None:
        """Raises RequestError."""

    def close(self) -> None:
        """The response has ended without an error. Raises RequestError."""

    def result(self) -> JSON:
        """The body of the reply. Raises RequestError."""


class SniffingParser:
    """The beginning of a response whose form is not known yet. Servers send event streams and whole JSON under any
    content type, so that the first byte decides.

    ``choose`` makes the parser for the form, which gets everything; ``on_choice`` is called with it.
    """

    altered: Set[str] = frozenset()
    is_done = False
    is_complete = False

    def __init__(
        self, choose: Callable[[BodyForm], ResponseParser], on_choice: Callable[[ResponseParser], None]
    ) -> None:
        self._choose = choose
        self._on_choice = on_choice
        self._data = b""

    def feed(self, data: bytes) -> None:
        self._data += data
        start = self._data.removeprefix(_BYTE_ORDER_MARK).lstrip()
        if start or len(self._data) > _MAX_SNIFFED_BYTES:
            self._chosen(_FORM_BY_BYTE.get(start[:1], "events")).feed(self._data)

    def close(self) -> None:
        parser = self._chosen("events")
        if self._data:
            parser.feed(self._data)
        parser.close()

    def result(self) -> JSON:
        raise ProtocolError("the reply is empty")

    def _chosen(self, form: BodyForm) -> ResponseParser:
        parser = self._choose(form)
        self._on_choice(parser)
        return parser


class SseParser:
    """An event stream. ``on_events`` is called with the accumulator after events were added to it.

    Once a reply has begun, its bytes are buffered up to ``flush_threshold`` and then parsed together; with ``live``
    each piece is parsed at once.
    """

    __slots__ = (
        "_accumulator",
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
        "_on_events",
    )

    def __init__(
        self,
        accumulator: Accumulator,
        on_events: Callable[[Accumulator], None],
        *,
        end_marker: bytes,
        max_bytes: int,
        content_type: str,
        live: bool = False,
        flush_threshold: int = FLUSH_BYTES,
    ) -> None:
        self._accumulator = accumulator
        self._on_events = on_events
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

    @property
    def altered(self) -> Set[str]:
        return self._accumulator.altered

    @property
    def is_done(self) -> bool:
        return self._accumulator.saw_end_marker

    @property
    def is_complete(self) -> bool:
        self._flush()
        return self._accumulator.is_complete

    def feed(self, data: bytes) -> None:
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise _too_large(self._max_bytes)
        self._buffer.append(data)
        self._buffered_bytes += len(data)
        if self._should_buffer(data):
            return
        self._flush()

    def close(self) -> None:
        self._flush()
        self._accumulate(self._decoder.finish())

    def result(self) -> JSON:
        self._flush()
        if self._bytes_left == self._max_bytes:
            raise ProtocolError("the reply is empty")
        if not self._has_events and self._content_type != "text/event-stream":
            raise _wrong_type(self._content_type, self._first_bytes)
        return self._accumulator.result()

    def _should_buffer(self, data: bytes) -> bool:
        """After the first token only the end of a reply has to be noticed at once. A short piece may be the second half
        of the end marker."""
        return (
            self._accumulator.has_content
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
        events = self._decoder.feed(data)
        if events:
            self._accumulate(events)
        elif not self._first_bytes:
            self._first_bytes = data

    def _accumulate(self, events: list[bytes]) -> None:
        self._has_events = self._has_events or bool(events)
        self._accumulator.feed(events)
        self._on_events(self._accumulator)


class JsonParser:
    """An unstreamed reply. ``parse`` makes its body of the data."""

    is_done = False

    def __init__(self, parse: Callable[[bytes], JSON], *, max_bytes: int) -> None:
        self._parse = parse
        self._max_bytes = self._bytes_left = max_bytes
        self._pieces: list[bytes] = []
        self.altered: set[str] = set()
        self.is_complete = False

    def feed(self, data: bytes) -> None:
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise _too_large(self._max_bytes)
        self._pieces.append(data)

    def close(self) -> None:
        self.is_complete = True

    def result(self) -> JSON:
        if not self._pieces:
            raise ProtocolError("the reply is empty")
        data = b"".join(self._pieces).removeprefix(_BYTE_ORDER_MARK)
        try:
            return self._parse(data)
        except ProtocolError:
            data = _END_MARKER_BEHIND.sub(b"", data)
            repaired = repaired_json(data, self.altered)
            if repaired is None:
                raise
        return self._parse(repaired)


class ErrorParser:
    """A response that is no reply. Only its beginning is kept, of which ``make_error`` makes the error."""

    altered: Set[str] = frozenset()
    is_complete = True

    def __init__(self, make_error: Callable[[bytes], Exception]) -> None:
        self._make_error = make_error
        self._data = b""

    @property
    def is_done(self) -> bool:
        return len(self._data) >= MAX_ERROR_BYTES

    def feed(self, data: bytes) -> None:
        self._data += data[:MAX_ERROR_BYTES]

    def close(self) -> None:
        """Nothing is left to parse."""

    def result(self) -> JSON:
        raise self._make_error(self._data)


def flush_threshold(streams: int) -> int:
    """How many bytes one more stream buffers while so many others are in flight."""
    return FLUSH_BYTES if streams < MANY_STREAMS else FLUSH_BYTES_OF_MANY


def html_instead_of_reply_error(content_type: str) -> Callable[[bytes], ProtocolError]:
    """Makes the error for a web page in place of a reply, as a proxy or a login sends it."""
    shown = content_type or "no content type"
    return lambda data: ProtocolError(
        f"a web page answered ({shown}), not an API: {one_line(readable_text(data), 200) or 'without text'}"
    )


def _too_large(max_bytes: int) -> ReplyTooLarge:
    return ReplyTooLarge(f"the reply is larger than {max_bytes / 2**20:g} MiB")


def _wrong_type(content_type: str, data: bytes) -> ProtocolError:
    return ProtocolError(
        f"the reply is not an event stream but {content_type or 'has no content type'}: {excerpt(data)}"
    )
