"""aiohttp's connections without its bookkeeping for each HTTP chunk, which is a third of the CPU time of a stream.

Everything that depends on private parts of aiohttp stands in this file; ``create_session`` chooses between the classes
here and aiohttp's own. The rest of the package works with both: it asks ``isinstance(connection, Connection)``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from types import NoneType
from typing import Any, Protocol

from aiohttp import (
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    Payload,
    StreamReader,
    TCPConnector,
)
from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage, StreamWriter

from processor.http.read_batching import socket_fd

_END_OF_HEADERS = b"\r\n\r\n"

AnyConnection = BaseProtocol
"""A ``Connection`` below, or one of aiohttp's own. It stays the same object from request to request."""


def create_session(
    *, ssl_context: ssl.SSLContext | bool, connect_timeout_s: float, force_close: bool, fast: bool = True
) -> ClientSession:
    """A session for any number of connections. ``force_close``: each one is closed after its reply. ``fast``: of the
    classes below, not of aiohttp's own. ``ssl_context`` True: the system's certificates."""
    connector = FastConnector if fast else TCPConnector
    return ClientSession(
        # The rate limiter bounds the number of connections.
        connector=connector(limit=0, limit_per_host=0, ssl=ssl_context, force_close=force_close),
        # All other timeouts are those of ``Deadlines``.
        timeout=ClientTimeout(total=None, connect=connect_timeout_s),
        cookie_jar=DummyCookieJar(),
    )


class ConnectionObserver(Protocol):
    """Is called from the socket callback. Waking a task for every segment costs more than parsing it, and bytes are
    parsed faster while they are in the cache."""

    def on_headers(self, status: int, headers: Mapping[str, str], content: StreamReader) -> None:
        """The headers of a response have come, perhaps of an informational one (status 1xx)."""

    def on_data(self) -> None:
        """Bytes have come, or the connection is lost."""


class UnmeteredStreamReader(StreamReader):
    """The body of a response for an observer that reads everything whenever bytes come. It never fills up, and no task
    waits for it to be filled.

    aiohttp records where each HTTP chunk ends, for readers that want them one by one. With one event in each chunk, as
    servers send them, that is a third of all work. aiohttp makes the object; only its class is changed.
    """

    __slots__ = ()

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        self._buffer.append(data)
        return False

    # A call that does nothing, without the frame of a Python function.
    begin_http_chunk_receiving = end_http_chunk_receiving = NoneType

    def read_nowait(self, n: int = -1) -> bytes:
        """All bytes that have come."""
        if self._exception is not None:
            raise self._exception
        data = b"".join(self._buffer)
        self._buffer.clear()
        return data


class Connection(ResponseHandler):
    """A connection that calls an observer, records whether it was used, and resumes reading only where it was paused.

    After each piece of a response that is handed on, aiohttp (3.14) resumes the connection and parses what has come
    since: nothing, as it was not paused. With a hundred chunks in a reply that is a tenth of all work.
    """

    observer: ConnectionObserver | None = None
    """Of the request that was sent last."""
    socket_fd: int | None = None
    """Where its reads can be delayed; None once it is lost."""
    has_sent = False
    """A request has been sent on it."""

    @property
    def open_socket_fd(self) -> int | None:
        """None where it is closing: another socket may have the descriptor already."""
        return None if self.transport is None or self.transport.is_closing() else self.socket_fd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.socket_fd = socket_fd(transport)

    def data_received(self, data: bytes) -> None:
        payload = self._payload
        remaining = self._receive_headers(data) if data and (payload is None or payload.is_eof()) else data
        if remaining or not data:
            super().data_received(remaining)
        if self.observer is not None:
            self.observer.on_data()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        super().feed_data(data, size)
        if self.observer is not None:
            head, content = data
            self.observer.on_headers(head.code, head.headers, content)

    def _receive_headers(self, data: bytes) -> bytes:
        """Pass on the headers of a response and choose the class of its body. Returns the bytes that follow them."""
        end = data.find(_END_OF_HEADERS) + len(_END_OF_HEADERS)
        # A compressed body may be paused in the middle of a segment, so it keeps aiohttp's reader.
        if end < len(_END_OF_HEADERS) or b"content-encoding" in data[:end].lower():
            return data
        super().data_received(data[:end])
        if type(self._payload) is StreamReader and self.observer is not None:
            self._payload.__class__ = UnmeteredStreamReader
        return data[end:]

    def connection_lost(self, exc: BaseException | None) -> None:
        self.socket_fd = None
        content = self._payload
        super().connection_lost(exc)
        if content is not None and not content.is_eof() and content.exception() is None:
            # aiohttp does not end the wait for the body where it closed the connection over bytes that are no HTTP.
            content.set_exception(ClientPayloadError("the connection is closed"))
        if self.observer is not None:
            # After the callbacks that aiohttp has scheduled.
            self._loop.call_soon(self.observer.on_data)

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused:
            super().resume_reading(resume_parser)


class FastConnector(TCPConnector):
    """Makes each connection a ``Connection``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        made: type[ResponseHandler] = Connection
        self._factory = partial(made, loop=self._loop)


class RequestPayload(Payload):
    """A JSON body of any size (for plain bytes above 1 MiB aiohttp warns) that calls ``on_sent`` with its connection.

    ``write`` is the last moment before the first byte is sent: aiohttp holds the headers back to send them with the
    body. aiohttp's tracing would report the same, at the cost of a dozen coroutines a request.
    """

    def __init__(self, data: bytes, on_sent: Callable[[AnyConnection], None]) -> None:
        super().__init__(data, content_type="application/json")
        self._size = len(data)
        self._on_sent = on_sent

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        # Bytes written to a connection that is closing are never sent.
        if isinstance(writer, StreamWriter) and writer.transport is not None and not writer.transport.is_closing():
            self._on_sent(writer.protocol)
        await writer.write(self._value)


def observe(connection: AnyConnection, observer: ConnectionObserver) -> bool:
    """Call this observer from now on, where the connection can. Returns whether it had sent a request before."""
    if not isinstance(connection, Connection):
        return False
    had_sent, connection.has_sent = connection.has_sent, True
    connection.observer = observer
    return had_sent


def abort(connection: AnyConnection) -> None:
    """Close the connection at once."""
    if connection.transport is not None:
        connection.transport.abort()


def free_raw_headers(response: ClientResponse) -> None:
    """Free the raw copy of the headers, which is not needed. A stream may take long, and there are many."""
    response._raw_headers = ()
