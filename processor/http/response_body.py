"""Parsers of a response's body. No I/O: bytes go in, the body of the reply or an error comes out."""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from typing import Literal, Protocol

from processor.core.errors import ProtocolError, ReplyTooLarge
from processor.core.models import JSON
from processor.core.text import excerpt, one_line, setting_name
from processor.protocols import Accumulator, readable_text, repaired_json

MAX_ERROR_BYTES = 64 * 1024

LARGE_BYTES = 256 * 1024
"""Parsing a larger reply may take longer than others can wait."""

BodyForm = Literal["events", "json", "page", "gzip"]
_FORM_BY_BYTE: dict[bytes, BodyForm] = {b"{": "json", b"[": "json", b"<": "page", b"\x1f": "gzip"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_SNIFFED_BYTES = 64 * 1024
"""So much white space is no beginning of JSON."""
_END_MARKER_BEHIND = re.compile(rb"\s*\ndata: ?\[DONE\]\s*\Z")


class ResponseParser(Protocol):
    """Does little work at a time: what would hold up the event loop is left as a backlog, for ``work_off`` to do in a
    thread."""

    @property
    def accumulator(self) -> Accumulator | None:
        """Of an event stream."""

    @property
    def altered(self) -> Set[str]:
        """What had to be changed of the reply, once ``result`` has returned."""

    @property
    def is_done(self) -> bool:
        """Bytes that follow do not matter."""

    @property
    def is_complete(self) -> bool:
        """Nothing of the reply is missing, should the response break off here. Raises RequestError."""

    @property
    def has_backlog(self) -> bool:
        """There is work to do in a thread before more is fed."""

    @property
    def is_large(self) -> bool:
        """Making the result takes long enough to do it in a thread."""

    def feed(self, data: bytes) -> bool:
        """Returns whether events were read, or one of the properties may have changed. Raises RequestError."""

    def work_off(self) -> None:
        """Do some of the work that is left. May be called in a thread. Raises RequestError."""

    def close(self) -> None:
        """The response has ended without an error. Raises RequestError."""

    def result(self) -> JSON:
        """The body of the reply. Raises RequestError."""


class SniffingParser:
    """The beginning of a response whose form is not known yet. Servers send event streams and whole JSON under any
    content type, so that the first byte decides.

    ``choose`` makes the parser for the form, which gets everything; ``on_choice`` is called with it.
    """

    __slots__ = ("_choose", "_data", "_on_choice")

    accumulator = None
    altered: Set[str] = frozenset()
    is_done = is_complete = is_large = has_backlog = False

    def __init__(
        self, choose: Callable[[BodyForm], ResponseParser], on_choice: Callable[[ResponseParser], None]
    ) -> None:
        self._choose = choose
        self._on_choice = on_choice
        self._data = b""

    def feed(self, data: bytes) -> bool:
        self._data += data
        start = self._data.removeprefix(_BYTE_ORDER_MARK).lstrip()
        if start or len(self._data) > _MAX_SNIFFED_BYTES:
            return self._chosen(_FORM_BY_BYTE.get(start[:1], "events")).feed(self._data)
        return False

    def work_off(self) -> None:
        """Nothing is left to do."""

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


class JsonParser:
    """An unstreamed reply. ``parse`` makes its body of the data."""

    __slots__ = ("_bytes_left", "_data", "_max_bytes", "_parse", "altered", "is_complete")

    accumulator = None
    is_done = has_backlog = False

    def __init__(self, parse: Callable[[bytes], JSON], *, max_bytes: int) -> None:
        self._parse = parse
        self._max_bytes = self._bytes_left = max_bytes
        self._data = bytearray()
        """Many pieces would leave gaps in the memory once they are joined."""
        self.altered: set[str] = set()
        self.is_complete = False

    @property
    def is_large(self) -> bool:
        return self._max_bytes - self._bytes_left > LARGE_BYTES

    def feed(self, data: bytes) -> bool:
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise too_large(self._max_bytes)
        self._data += data
        return False

    def work_off(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        self.is_complete = True

    def result(self) -> JSON:
        if not self._data:
            raise ProtocolError("the reply is empty")
        data = bytes(self._data).removeprefix(_BYTE_ORDER_MARK)
        self._data.clear()
        try:
            return self._parse(data)
        except ReplyTooLarge:
            raise
        except ProtocolError:
            data = _END_MARKER_BEHIND.sub(b"", data)
            repaired = repaired_json(data, self.altered)
            if repaired is None:
                raise
        return self._parse(repaired)


class ErrorParser:
    """A response that is no reply. Only its beginning is kept, of which ``make_error`` makes the error."""

    accumulator = None
    altered: Set[str] = frozenset()
    is_complete = True
    is_large = has_backlog = False

    def __init__(self, make_error: Callable[[bytes], Exception]) -> None:
        self._make_error = make_error
        self._data = b""

    @property
    def is_done(self) -> bool:
        return len(self._data) >= MAX_ERROR_BYTES

    def feed(self, data: bytes) -> bool:
        self._data += data[:MAX_ERROR_BYTES]
        return self.is_done

    def work_off(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Nothing is left to parse."""

    def result(self) -> JSON:
        raise self._make_error(self._data)


def html_instead_of_reply_error(content_type: str) -> Callable[[bytes], ProtocolError]:
    """Makes the error for a web page in place of a reply, as a proxy or a login sends it."""
    shown = media_type(content_type) or "no content type"
    what = f"a web page answered ({shown}), not an API (is {setting_name('base_url')} right?)"
    return lambda data: ProtocolError(f"{what}: {one_line(readable_text(data), 200) or 'without text'}")


def too_large(max_bytes: int) -> ReplyTooLarge:
    return ReplyTooLarge(f"the reply is larger than {max_bytes / 2**20:g} MiB")


def wrong_type(content_type: str, data: bytes) -> ProtocolError:
    shown = media_type(content_type) or "has no content type"
    return ProtocolError(f"the reply is not an event stream but {shown}: {excerpt(data)}")


def media_type(content_type: str) -> str:
    """The value of a `Content-Type` header in lower case, without its parameters."""
    return content_type.partition(";")[0].strip().lower()
