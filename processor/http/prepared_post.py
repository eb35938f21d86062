"""Sends requests that differ only in their bodies: what aiohttp makes for each of them is made once here.

For each request aiohttp copies the headers, filters cookies, makes timers, and starts a task that writes the body. That
is an eighth of all that a short job costs. Here the head is made once for an address. The pool of connections, the
reading of responses and the errors stay aiohttp's. This uses what aiohttp exports without describing it: ``self_check``
compares the two ways, and where they differ, a run uses ``ClientSession.post``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from aiohttp import (
    ClientConnectionResetError,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ConnectionTimeoutError,
    hdrs,
)
from multidict import CIMultiDict
from yarl import URL

from processor.http.fast_connector import HEADER_LIMITS, AnyConnection, FailureListener
from processor.http.request_payload import CONTENT_TYPE, has_stray_bytes, were_of_tls

MAX_JOINED_BYTES = 64 * 1024
"""A larger body is not copied behind the head, to send both in one write."""

_OF_THE_BODY = (hdrs.CONTENT_LENGTH, hdrs.TRANSFER_ENCODING, hdrs.CONTENT_ENCODING, hdrs.EXPECT)
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOTHING_LEFT_TO_WRITE: Any = SimpleNamespace(output_size=0)
_NO_TIMER: Any = None


class PreparedPost:
    """POST requests to one address with the same headers, on the connections of one session."""

    def __init__(self, session: ClientSession, url: URL, headers: CIMultiDict[str]) -> None:
        """Raises ValueError where a header cannot be sent."""
        assert session.connector is not None
        self.url = url
        self.headers = headers
        self._session = session
        self._connector = session.connector
        self._loop = asyncio.get_running_loop()
        self._request = ClientRequest(hdrs.METH_POST, url, headers=headers, loop=self._loop, session=session)
        self._info = self._request.request_info
        self._head = _head(self._request, force_close=session.connector.force_close)

    async def send(
        self, body: bytes, on_sent: Callable[[AnyConnection], None], on_failure: FailureListener
    ) -> ClientResponse:
        """Send a request and wait for the head of its response. Raises what ``ClientSession.post`` raises.

        ``on_sent`` is called with the connection before the first byte is sent, and ``on_failure`` with what it raises.
        """
        try:
            connection = await self._connector.connect(self._request, traces=[], timeout=self._session.timeout)
        except TimeoutError as error:
            raise ConnectionTimeoutError(f"Connection timeout to host {self.url}") from error
        try:
            protocol = connection.protocol
            assert protocol is not None
            protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_timeout=None, **HEADER_LIMITS)
            try:
                if not has_stray_bytes(protocol) or await were_of_tls(protocol):
                    on_sent(protocol)
            except Exception as error:
                on_failure(error)
                raise
            self._write(protocol.transport, body)
            return await self._response(connection)
        except BaseException:
            connection.close()
            raise

    def _write(self, transport: asyncio.Transport | None, body: bytes) -> None:
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("Cannot write to closing transport")
        head = b"%bContent-Length: %d\r\n\r\n" % (self._head, len(body))
        if len(body) <= MAX_JOINED_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)

    async def _response(self, connection: Any) -> ClientResponse:
        response = ClientResponse(
            hdrs.METH_POST,
            self.url,
            writer=None,
            continue100=None,
            timer=_NO_TIMER,
            request_info=self._info,
            traces=[],
            loop=self._loop,
            session=self._session,
            stream_writer=_NOTHING_LEFT_TO_WRITE,
        )
        try:
            return await response.start(connection)
        except BaseException:
            response.close()
            raise


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
