"""Reads a file of lines piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from processor.output.storage import StorageFile

_READ_BYTES = 1 << 20


def lines_of(file: StorageFile) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its position. The last one may lack its line feed."""
    at, rest, size = 0, b"", file.size()
    position = 0
    while position < size and (chunk := file.read(position, _READ_BYTES)):
        position += len(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        for raw in whole:
            yield at, raw + b"\n"
            at += len(raw) + 1
    if rest:
        yield at, rest


async def lines_from(pieces: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """Yield the lines of what comes in pieces, without their line feeds; the last one may have none."""
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest
