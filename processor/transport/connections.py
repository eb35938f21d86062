"""What aiohttp does not say of its connections."""

from __future__ import annotations

import asyncio
from functools import partial
from weakref import WeakKeyDictionary

from aiohttp import ClientPayloadError, StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler


class Connections:
    """Which connections have served a request before, and which response each of them carries.

    A connection is known by its protocol object, which stays the same from request to request.
    """

    def __init__(self) -> None:
        self._carried: WeakKeyDictionary[BaseProtocol, StreamReader | None] = WeakKeyDictionary()

    def begin(self, connection: BaseProtocol) -> bool:
        """A request goes out on this one. Returns whether it is a used one."""
        used = connection in self._carried
        if not used and isinstance(connection, ResponseHandler) and (closed := connection.closed) is not None:
            closed.add_done_callback(partial(self._lost, connection))
        self._carried[connection] = None
        return used

    def carry(self, connection: BaseProtocol, content: StreamReader) -> None:
        """The response to it has begun."""
        self._carried[connection] = content

    def _lost(self, connection: BaseProtocol, closed: asyncio.Future[None]) -> None:
        """End the wait for the rest of a response. aiohttp forgets to, where it hung up on bytes that are no HTTP."""
        if not closed.cancelled():
            closed.exception()  # or asyncio complains that nobody asked
        content = self._carried.pop(connection, None)
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(ClientPayloadError("the connection is closed"))
