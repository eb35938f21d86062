"""A request's body that knows when it goes.

Its `write` is the last moment before the first byte: aiohttp holds the headers back to send them together with the
body. Its tracing would tell the same, by a dozen coroutines a request.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import Payload
from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import StreamWriter

Leaving = Callable[[BaseProtocol], None]
"""Told which connection it is: the object is the same for every request on one connection."""


class OutgoingBody(Payload):
    """JSON bytes of any size (of plain bytes above 1 MiB aiohttp warns)."""

    def __init__(self, data: bytes, leaving: Leaving) -> None:
        super().__init__(data, content_type="application/json")
        self._size = len(data)
        self._leaving = leaving

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        # What is written to a connection that is closing goes nowhere.
        if isinstance(writer, StreamWriter) and writer.transport is not None and not writer.transport.is_closing():
            self._leaving(writer.protocol)
        await writer.write(self._value)
