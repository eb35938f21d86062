"""Reads a pipe without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO

from processor.input.line_splitter import CHUNK_BYTES
from processor.input.other_formats import is_enough


async def read_checked_pipe(file: BinaryIO, check: Callable[[bytes], None]) -> AsyncIterator[bytes]:
    """Yield what comes. The beginning is held back until its format can be known, and ``check`` has not raised."""
    head: bytes | None = b""
    async for chunk in _read_pipe(file):
        if head is None:
            yield chunk
        elif is_enough(head := head + chunk):
            check(head)
            yield head
            head = None
    if head:
        check(head)
        yield head


async def _read_pipe(file: BinaryIO) -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            yield chunk
    finally:
        transport.close()
