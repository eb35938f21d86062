"""A TCP proxy in front of a real server that breaks some connections, before or in the middle of a response."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from random import Random
from urllib.parse import urlsplit

BREAK_RATE = 0.2
"""Share of the connections that are broken, at most this number of bytes after the request."""
_MOST_BYTES = 2000


class FaultProxy:
    """``broken`` counts the connections that were broken, ``connections`` all."""

    def __init__(self, host: str, port: int, seed: int) -> None:
        self._server = (host, port)
        self._rng = Random(seed)
        self.connections = 0
        self.broken = 0
        self._tasks: set[asyncio.Task[None] | None] = set()
        """The loop itself would let waiting tasks be collected."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        is_broken = self._rng.random() < BREAK_RATE
        limit = self._rng.randrange(_MOST_BYTES) if is_broken else None
        with closing(writer.transport), suppress(OSError):
            there, back = await asyncio.open_connection(*self._server)
            requests = asyncio.create_task(_copy(reader, back, None))
            try:
                if await _copy(there, writer, limit):
                    self.broken += 1
            finally:
                requests.cancel()
                for end in (writer, back):
                    end.transport.abort()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, limit: int | None) -> bool:
    """Copy until the end, or until so many bytes; returns whether it was the latter."""
    copied = 0
    while data := await source.read(65536):
        copied += len(data)
        if limit is not None and copied > limit:
            target.write(data[: max(0, len(data) - (copied - limit))])
            await target.drain()
            return True
        target.write(data)
        await target.drain()
    return False


@contextmanager
def fault_proxy(base_url: str, *, seed: int) -> Iterator[tuple[str, FaultProxy]]:
    """Yields the base URL of a proxy in front of this server, and the proxy. It runs in a thread."""
    parts = urlsplit(base_url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = FaultProxy(parts.hostname, parts.port, seed)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(proxy.handle, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{parts.path}", proxy
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _close(server: asyncio.Server) -> None:
    """End all connections, also those that begin meanwhile."""
    server.close()
    await asyncio.sleep(0.1)
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.01)  # for the connections to be closed
