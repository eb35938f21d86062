"""aiohttp's connections without its bookkeeping for each HTTP chunk, which is a third of the CPU time of a stream.

What depends on private parts of aiohttp stands here and in ``fast_connector``, whose ``create_session`` chooses between
the classes here and aiohttp's own. The rest of the package works with both: it asks ``isinstance(connection,
Connection)``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import NoneType
from typing import TYPE_CHECKING, Any

from aiohttp import (
    ClientPayloadError,
    StreamReader,
)
from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection as _ConnectionLease
from aiohttp.http import RawResponseMessage, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError

from processor.http.idle_connections import IdleConnections
from processor.http.read_batching import socket_fd
from processor.http.response_head import without_length_beside_chunks

if TYPE_CHECKING:
    from processor.http.connection_observer import ConnectionObserver

_END_OF_HEADERS = b"\r\n\r\n"
HEADER_LIMITS: dict[str, Any] = {"max_line_size": 1 << 16, "max_field_size": 1 << 16, "max_headers": 1000}  # in bytes

AnyConnection = BaseProtocol
"""A ``Connection`` below, or one of aiohttp's own. It stays the same object from request to request."""
ConnectionLease = _ConnectionLease  # gives a connection back to the pool
NotHttp = HttpProcessingError  # what a connection has brought is no HTTP

FailureListener = Callable[[Exception], None]


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

    # NoneType() accepts the call, does nothing, and is faster than a Python function.
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

    Bytes that come while no response is awaited belong to no request. aiohttp would read them as the response to the
    next one, so the connection is closed.
    """

    observer: ConnectionObserver | None = None
    """Of the request that was sent last."""
    idle_since = 0.0
    """When its last response ended, by the clock of the event loop."""
    _lease: ConnectionLease | None = None
    """What closes it for aiohttp's pool, too. With it the head of a response goes to the observer alone: no task wakes
    up."""
    _pool: IdleConnections | None = None
    """Where it goes when a response has ended; None where no connection is used again."""
    _is_in_use = False
    """With a lease: a request is sent, and its response has not ended."""
    socket_fd: int | None = None
    """Where its reads can be delayed; None once it is lost."""
    has_sent = False
    """A request has been sent on it."""
    has_received = False
    """Bytes have come since its last response, or since aiohttp has prepared a request."""
    _awaits_head = False
    """A request is prepared or sent, and its response has not begun. Informational responses do not count."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_failure: FailureListener | None = None) -> None:
        super().__init__(loop)
        self._on_failure = on_failure

    @property
    def open_socket_fd(self) -> int | None:
        """None where it is closing: another socket may have the descriptor already."""
        return None if self.transport is None or self.transport.is_closing() else self.socket_fd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        try:
            super().connection_made(transport)
            self.socket_fd = socket_fd(transport)
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def set_response_params(self, **params: Any) -> None:
        self.has_received = False
        self.expect_response()
        super().set_response_params(**params)

    def use_lease(self, lease: ConnectionLease, pool: IdleConnections | None) -> None:
        """Prepare it for requests of ``PreparedPost``: one parser reads the responses to all of them."""
        self._lease, self._pool = lease, pool
        super().set_response_params(read_until_eof=True, auto_decompress=False, read_timeout=None, **HEADER_LIMITS)

    def expect_response(self) -> None:
        """A request is about to be sent."""
        self._awaits_head = True
        self._is_in_use = self._lease is not None

    def discard(self) -> None:
        """Close it, where it has a lease."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.close()

    def leave(self) -> None:
        """The request that it was sent for has ended. Where its response has not, it cannot be used again."""
        self.observer = None
        if self._is_in_use:
            self.discard()

    def data_received(self, data: bytes) -> None:
        try:
            payload = self._payload
            if data and (payload is None or payload.is_eof()):
                data = self._receive_headers(data)
                if data:
                    self._parse(data)
            else:
                self._parse(data)
            if not self._awaits_head and ((payload := self._payload) is None or payload.is_eof()):
                self._close_on_surplus()
                if self._is_in_use:
                    self._end_use()
            if self.observer is not None:
                self.observer.on_data()
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def _parse(self, data: bytes) -> None:
        """What aiohttp does with bytes that have come. With a lease without its read timeout, which is not used."""
        if self._lease is None or self._parser is None or self._upgraded:
            super().data_received(data)
            return
        try:
            messages, self._upgraded, _ = self._parser.feed_data(data)
        except Exception as error:  # noqa: BLE001
            if self.transport is not None:
                self.transport.close()
            if isinstance(error, HttpProcessingError):
                self.set_exception(error)
            else:
                self.set_exception(HttpProcessingError(), error)
            return
        for message in messages:
            head, self._payload = message
            if head.should_close:
                self.force_close()
            self.feed_data(message)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        head, content = data
        if not self._awaits_head:
            self._close_at_once()  # a second response: to no request
            return
        is_informational = 100 <= head.code < 200 and head.code != 101  # another one follows
        self._awaits_head = is_informational
        if not is_informational and self.transport is not None and self.transport.get_write_buffer_size():
            self.force_close()  # the server has not read the request whole, and may answer a second time
        if self._lease is None:
            super().feed_data(data, size)
        if self.observer is not None and not is_informational:
            self.observer.on_headers(head.code, head.headers, content)

    def _end_use(self) -> None:
        """The response has ended: another request may use the connection."""
        self._is_in_use = self.has_received = False
        if self._pool is None or self.should_close:
            self.discard()
        else:
            self._pool.put(self)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        if self._awaits_head and self._lease is not None and self.observer is not None and isinstance(exc, Exception):
            self.observer.on_no_response(exc)

    def connection_lost(self, exc: BaseException | None) -> None:
        try:
            self.socket_fd = None
            content = self._payload
            super().connection_lost(exc)
            if content is not None and not content.is_eof() and content.exception() is None:
                # aiohttp does not end the wait for the body where it closed the connection over bytes that are no HTTP.
                content.set_exception(ClientPayloadError("the connection is closed"))
            if self.observer is not None:
                # After the callbacks that aiohttp has scheduled.
                self._loop.call_soon(self.observer.on_data)
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _receive_headers(self, data: bytes) -> bytes:
        """Pass on the headers of a response and choose the class of its body. Returns the bytes that follow them."""
        self.has_received = True
        if not self._awaits_head:
            self._close_at_once()
            return b""
        while self._awaits_head and (end := data.find(_END_OF_HEADERS)) >= 0:
            end += len(_END_OF_HEADERS)
            head, data = data[:end], data[end:]
            fixed = without_length_beside_chunks(head)
            self._parse(fixed or head)
            if fixed is not None:
                self.force_close()
        if (
            not self._awaits_head
            and type(self._payload) is StreamReader
            and self.observer is not None
            and not self._reading_paused
        ):
            self._payload.__class__ = UnmeteredStreamReader
        return data

    def _close_on_surplus(self) -> None:
        """Close the connection where the parser holds bytes that came behind the end of the response."""
        if self._parser is None or self.transport is None:
            return
        try:
            surplus = self._parser.feed_eof()
        except HttpProcessingError as error:
            surplus = error
        if surplus is not None:
            self._close_at_once()

    def _close_at_once(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.abort()

    def _fail(self, error: Exception) -> None:
        """An error of this program, or of its use of aiohttp: not of the network, whatever follows from it."""
        self._close_at_once()
        if self.observer is not None:
            self.observer.on_failure(error)
        elif self._on_failure is not None:
            self._on_failure(error)


def connection_of(writer: AbstractStreamWriter) -> AnyConnection | None:
    """The connection to which a request is written."""
    return writer.protocol if isinstance(writer, StreamWriter) else None


def has_leftovers(connection: AnyConnection) -> bool:
    """Whether bytes have come on the connection since its last response."""
    if isinstance(connection, Connection):
        return connection.has_received
    return isinstance(connection, ResponseHandler) and connection.should_close


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
