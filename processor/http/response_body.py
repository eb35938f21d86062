"""What becomes of a response's bytes. No I/O: bytes in, the reply's body or an error out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from processor.core.errors import ProtocolError, ReplyTooLarge
from processor.core.models import JSON
from processor.core.text import excerpt
from processor.protocols import Accumulator, SseDecoder

MAX_ERROR_BYTES = 64 * 1024

BULK_BYTES = 4 * 1024
"""So much is folded in at a time: much at once costs little more than a little."""
MANY = 1000
LITTLE_BYTES = 1024
"""So many streams hold no more each of what is not folded in yet."""

_SHORT_BYTES = 64


class ResponseParser(Protocol):
    @property
    def enough(self) -> bool:
        """Nothing that may follow matters."""

    @property
    def complete(self) -> bool:
        """Nothing that matters is missing, should the response break off here. Raises RequestError."""

    def take(self, data: bytes) -> None:
        """Raises RequestError."""

    def finish(self) -> None:
        """The response has ended as it should. Raises RequestError."""

    def body(self) -> JSON:
        """The reply's body. Raises RequestError."""


class SseParser:
    """An event stream. ``grown`` is called with the fold when events have come: of a ``live`` one at once."""

    __slots__ = (
        "_bulk_bytes",
        "_content_type",
        "_decoder",
        "_end_marker",
        "_first",
        "_fold",
        "_grown",
        "_has_events",
        "_kept",
        "_kept_bytes",
        "_left",
        "_live",
        "_max_bytes",
    )

    def __init__(
        self,
        fold: Accumulator,
        grown: Callable[[Accumulator], None],
        *,
        end_marker: bytes,
        max_bytes: int,
        content_type: str,
        live: bool = False,
        bulk_bytes: int = BULK_BYTES,
    ) -> None:
        self._fold = fold
        self._grown = grown
        self._end_marker = end_marker
        self._live = live
        self._bulk_bytes = bulk_bytes
        self._decoder = SseDecoder()
        self._max_bytes = self._left = max_bytes
        self._content_type = content_type
        self._first = b""
        self._has_events = False
        self._kept: list[bytes] = []
        """Not looked into yet."""
        self._kept_bytes = 0

    @property
    def enough(self) -> bool:
        return self._fold.saw_end_marker

    @property
    def complete(self) -> bool:
        self._take_kept()
        return self._fold.is_complete

    def take(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._max_bytes)
        self._kept.append(data)
        self._kept_bytes += len(data)
        if self._waits(data):
            return
        self._take_kept()

    def finish(self) -> None:
        self._take_kept()
        self._fold_in(self._decoder.finish())

    def body(self) -> JSON:
        self._take_kept()
        if self._left == self._max_bytes:
            raise ProtocolError("the reply is empty")
        if not self._has_events and self._content_type != "text/event-stream":
            raise _wrong_type(self._content_type, self._first)
        return self._fold.result()

    def _waits(self, data: bytes) -> bool:
        """Once a reply has begun, nobody needs to know more of it than that it has ended. What is short may be the
        second half of an end."""
        return (
            self._fold.has_content
            and not self._live
            and self._kept_bytes < self._bulk_bytes
            and len(data) >= _SHORT_BYTES
            and self._end_marker not in data
        )

    def _take_kept(self) -> None:
        if not self._kept:
            return
        data = b"".join(self._kept)
        self._kept.clear()
        self._kept_bytes = 0
        payloads = self._decoder.feed(data)
        if payloads:
            self._fold_in(payloads)
        elif not self._first:
            self._first = data

    def _fold_in(self, payloads: list[bytes]) -> None:
        self._has_events = self._has_events or bool(payloads)
        self._fold.feed(payloads)
        self._grown(self._fold)


class JsonParser:
    """An unstreamed reply. ``parse`` makes its body of the data."""

    enough = False

    def __init__(self, parse: Callable[[bytes], JSON], *, max_bytes: int) -> None:
        self._parse = parse
        self._max_bytes = self._left = max_bytes
        self._parts: list[bytes] = []
        self.complete = False

    def take(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._max_bytes)
        self._parts.append(data)

    def finish(self) -> None:
        self.complete = True

    def body(self) -> JSON:
        if not self._parts:
            raise ProtocolError("the reply is empty")
        return self._parse(b"".join(self._parts))


class ErrorParser:
    """An answer that is no reply: its beginning suffices to say what it is. ``error`` makes the error of it."""

    complete = True

    def __init__(self, error: Callable[[bytes], Exception]) -> None:
        self._error = error
        self._data = b""

    @property
    def enough(self) -> bool:
        return len(self._data) >= MAX_ERROR_BYTES

    def take(self, data: bytes) -> None:
        self._data += data[:MAX_ERROR_BYTES]

    def finish(self) -> None:
        """There is nothing to wait for."""

    def body(self) -> JSON:
        raise self._error(self._data)


def bulk_bytes(streams: int) -> int:
    """For one more beside so many."""
    return BULK_BYTES if streams < MANY else LITTLE_BYTES


def page_error(content_type: str) -> Callable[[bytes], ProtocolError]:
    """For a page where a reply should be: a proxy's, or a login's."""
    return lambda data: _wrong_type(content_type, data)


def _too_large(max_bytes: int) -> ReplyTooLarge:
    return ReplyTooLarge(f"the reply is larger than {max_bytes / 2**20:g} MiB")


def _wrong_type(content_type: str, data: bytes) -> ProtocolError:
    return ProtocolError(f"the reply is no event stream but {content_type or 'of no type'}: {excerpt(data)}")
