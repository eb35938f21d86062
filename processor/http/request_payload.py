"""The body of a request, and the last look at its connection before it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import ClientResponse, ClientSession, Payload
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict
from yarl import URL

from processor.core.platform import has_unread_bytes
from processor.http.fast_connection import AnyConnection, Connection, FailureListener, connection_of, has_leftovers
from processor.http.read_batching import socket_fd

CONTENT_TYPE = "application/json"
_TURNS_TO_READ = 3
"""Turns of the event loop until bytes that have come are handed to their connection."""


class RequestPayload(Payload):
    """A JSON body of any size (for plain bytes above 1 MiB aiohttp warns) that calls ``on_sent`` with its connection.

    ``write`` is the last moment before the first byte is sent: aiohttp holds the headers back to send them with the
    body. aiohttp's tracing would report the same, at the cost of a dozen coroutines a request. A connection on which
    bytes have come by then is closed, and nothing is sent.
    """

    def __init__(
        self,
        data: bytes,
        on_sent: Callable[[AnyConnection], None],
        on_failure: FailureListener | None = None,
    ) -> None:
        super().__init__(data, content_type=CONTENT_TYPE)
        self._data = data
        self._on_sent = on_sent
        self._on_failure = on_failure

    @property
    def size(self) -> int:
        return len(self._data)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._data, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        try:
            connection = connection_of(writer)
            if connection is not None and (not has_stray_bytes(connection) or await were_of_tls(connection)):
                self._on_sent(connection)
        except Exception as error:
            if self._on_failure is not None:
                self._on_failure(error)
            raise
        await writer.write(self._data)  # fails where the connection is closing: nothing is sent


async def post(
    session: ClientSession, url: URL, payload: RequestPayload, headers: CIMultiDict[str], proxy: URL | None
) -> ClientResponse:
    """Send a request in aiohttp's own way, and wait for the head of its response."""
    return await session.post(url, data=payload, headers=headers, proxy=proxy, allow_redirects=False)


def has_stray_bytes(connection: AnyConnection) -> bool:
    """Whether the connection is closing, or bytes have come on it: they belong to no request."""
    transport = connection.transport
    if transport is None or transport.is_closing() or has_leftovers(connection):
        return True
    descriptor = connection.socket_fd if isinstance(connection, Connection) else socket_fd(transport)
    return descriptor is not None and has_unread_bytes(descriptor)


async def were_of_tls(connection: AnyConnection) -> bool:
    """Whether the bytes that have come belonged to TLS itself, so that the connection can be used. Else close it."""
    transport = connection.transport
    if transport is None:
        return False
    if transport.get_extra_info("ssl_object") is None or has_leftovers(connection):
        transport.abort()
    else:
        for _ in range(_TURNS_TO_READ):
            await asyncio.sleep(0)
        if has_leftovers(connection):
            transport.abort()
    return not transport.is_closing()
