"""aiohttp's connector, without what aiohttp does for nothing."""

from __future__ import annotations

import asyncio
from functools import partial
from types import NoneType
from typing import Any, Protocol

from aiohttp import ClientPayloadError, StreamReader, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage

from processor.http.read_batching import number_of

_END_OF_HEAD = b"\r\n\r\n"


class UnmeteredStreamReader(StreamReader):
    """A response's body, for a listener that takes all there is whenever something has come. Nobody waits for it to be
    filled, and it never fills up.

    aiohttp keeps account of where each HTTP chunk ends, for readers that want them one by one. With one event in each,
    as servers stream them, that is a third of all work. The same object, of another class: it is made inside aiohttp.
    """

    __slots__ = ()

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        self._buffer.append(data)
        return False

    # Nobody asks for chunks: a call that does nothing, without Python's own frame.
    begin_http_chunk_receiving = end_http_chunk_receiving = NoneType

    def read_nowait(self, n: int = -1) -> bytes:
        """All of it."""
        if self._exception is not None:
            raise self._exception
        data = b"".join(self._buffer)
        self._buffer.clear()
        return data


class ConnectionObserver(Protocol):
    """Is told what comes at once. To wake a task for every segment costs more than to take it in, and what is taken in
    while it is warm costs less than what has waited for its task."""

    def begins(self, head: RawResponseMessage, content: StreamReader) -> None:
        """A response, even one that others are to follow (status 1xx)."""

    def look(self) -> None:
        """Something has come, or the connection is lost."""


class Connection(ResponseHandler):
    """A connection that has a listener, knows whether it has served, and resumes only what was paused. It stays the
    same object from request to request.

    After each piece of a response that is handed on, aiohttp (3.14) resumes the connection, and parses what has come
    since: nothing, as it was not paused. With a hundred chunks in a reply that is a tenth of all work.
    """

    listener: ConnectionObserver | None = None
    """Of the request that went out last."""
    number: int | None = None
    """Of its socket, while it may be paused."""
    used = False
    """A request has gone out on it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.number = number_of(transport)

    def data_received(self, data: bytes) -> None:
        payload = self._payload
        rest = self._take_head(data) if data and (payload is None or payload.is_eof()) else data
        if rest or not data:
            super().data_received(rest)
        if self.listener is not None:
            self.listener.look()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        super().feed_data(data, size)
        if self.listener is not None:
            self.listener.begins(*data)

    def _take_head(self, data: bytes) -> bytes:
        """A response begins. Returns what is still to be taken in, once the class of its body is chosen."""
        end = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        # What is compressed may be paused in the middle of a piece.
        if end < len(_END_OF_HEAD) or b"content-encoding" in data[:end].lower():
            return data
        super().data_received(data[:end])
        if type(self._payload) is StreamReader and self.listener is not None:
            self._payload.__class__ = UnmeteredStreamReader
        return data[end:]

    def connection_lost(self, exc: BaseException | None) -> None:
        self.number = None
        content = self._payload
        super().connection_lost(exc)
        if content is not None and not content.is_eof() and content.exception() is None:
            # aiohttp forgets to end the wait for the rest, where it hung up on bytes that are no HTTP.
            content.set_exception(ClientPayloadError("the connection is closed"))
        if self.listener is not None:
            # Behind what others do about it.
            self._loop.call_soon(self.listener.look)

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused:
            super().resume_reading(resume_parser)


class Connector(TCPConnector):
    """Makes such connections. In an aiohttp that makes them elsewhere it is a TCPConnector."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        made: type[ResponseHandler] = Connection
        self._factory = partial(made, loop=self._loop)
