"""Sends requests that differ only in their bodies: what aiohttp makes for each of them is made once here.

For each request aiohttp copies the headers, filters cookies, makes timers, starts a task that writes the body, and
wakes its user for the head of the response. That is a sixth of all that a short job costs. Here the head of the request
is made once for an address, the parser of responses once for a connection, and the response goes to the observer of the
connection. Connecting, the parser and the errors stay aiohttp's. This uses what aiohttp exports without describing it:
``self_check`` compares the two ways, and where they differ, a run uses ``ClientSession.post``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from aiohttp import (
    ClientConnectionResetError,
    ClientRequest,
    ClientSession,
    ConnectionTimeoutError,
    hdrs,
)
from multidict import CIMultiDict
from yarl import URL

from processor.http.fast_connection import Connection, FailureListener
from processor.http.fast_connector import FastConnector
from processor.http.request_payload import CONTENT_TYPE, has_stray_bytes, were_of_tls

MAX_JOINED_BYTES = 64 * 1024
"""A larger body is not copied behind the head, to send both in one write."""

_OF_THE_BODY = (hdrs.CONTENT_LENGTH, hdrs.TRANSFER_ENCODING, hdrs.CONTENT_ENCODING, hdrs.EXPECT)
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class PreparedPost:
    """POST requests to one address with the same headers, on the connections of one session."""

    def __init__(self, session: ClientSession, url: URL, headers: CIMultiDict[str]) -> None:
        """Raises ValueError where a header cannot be sent."""
        assert isinstance(session.connector, FastConnector)
        self.url = url
        self.headers = headers
        self._session = session
        self._connector = session.connector
        loop = asyncio.get_running_loop()
        self._request = ClientRequest(hdrs.METH_POST, url, headers=headers, loop=loop, session=session)
        self._idle = session.connector.idle_connections(self._request)
        self._head = _head(self._request, force_close=session.connector.force_close)

    async def send(self, body: bytes, on_sent: Callable[[Connection], None], on_failure: FailureListener) -> None:
        """Send a request. The observer of the connection gets the response, and calls ``leave`` when it needs no more.

        ``on_sent`` is called with the connection before the first byte is sent, and ``on_failure`` with what it raises.
        Raises what ``ClientSession.post`` raises.
        """
        connection = None if self._idle is None else self._idle.take()
        if connection is None:
            connection = await self._connect()
        try:
            try:
                if not has_stray_bytes(connection) or await were_of_tls(connection):
                    on_sent(connection)
            except Exception as error:
                on_failure(error)
                raise
            connection.expect_response()
            self._write(connection.transport, body)
        except BaseException:
            connection.discard()
            raise

    async def _connect(self) -> Connection:
        try:
            lease = await self._connector.connect(self._request, traces=[], timeout=self._session.timeout)
        except TimeoutError as error:
            raise ConnectionTimeoutError(f"Connection timeout to host {self.url}") from error
        try:
            connection = lease.protocol
            assert isinstance(connection, Connection)
            connection.use_lease(lease, self._idle)
        except BaseException:
            lease.close()
            raise
        return connection

    def _write(self, transport: asyncio.Transport | None, body: bytes) -> None:
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("Cannot write to closing transport")
        head = b"%bContent-Length: %d\r\n\r\n" % (self._head, len(body))
        if len(body) <= MAX_JOINED_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)


def can_be_prepared(headers: CIMultiDict[str]) -> bool:
    """Whether the headers say nothing of the body, which differs from request to request."""
    return not any(name in headers for name in _OF_THE_BODY)


def _head(request: ClientRequest, *, force_close: bool) -> bytes:
    """The head of the request, up to the length of its body. Raises ValueError where a header cannot be sent."""
    headers = request.headers.copy()
    headers.popall(hdrs.CONTENT_LENGTH, None)
    headers.setdefault(hdrs.CONTENT_TYPE, CONTENT_TYPE)
    if force_close:
        headers.setdefault(hdrs.CONNECTION, "close")
    lines = [f"POST {request.url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if any(map(_CONTROL_CHARACTERS.search, lines)):
        raise ValueError("a header holds a control character")
    return "".join(f"{line}\r\n" for line in lines).encode()
