"""No HTTP client at all: ``python raw.py JOBS OUT BASE_URL CONCURRENCY``.

A raw asyncio protocol that sends each request as canned bytes and discards the reply: what the kernel and the event
loop alone cost. Writes nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import uvloop

END = b"0\r\n\r\n"


class Discard(asyncio.Protocol):
    def __init__(self, jobs: Iterator[bytes], head: bytes) -> None:
        self._jobs = jobs
        self._head = head
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._next()

    def data_received(self, data: bytes) -> None:
        if data.endswith(END):
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self.done.set_result(None)

    def _next(self) -> None:
        job = next(self._jobs, None)
        if job is None:
            self._transport.close()
        else:
            self._transport.write(self._head % (len(job), job))


async def main(jobs: str, base_url: str, concurrency: int) -> None:
    url = urlsplit(base_url)
    host, port = url.hostname or "", url.port or 80
    head = b"POST %b/chat/completions HTTP/1.1\r\nHost: %b\r\nContent-Length: %%d\r\n\r\n%%b"
    head %= url.path.encode(), url.netloc.encode()
    loop = asyncio.get_running_loop()
    with open(jobs, "rb") as lines:
        made = [await loop.create_connection(lambda: Discard(lines, head), host, port) for _ in range(concurrency)]
        await asyncio.gather(*(protocol.done for _, protocol in made))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[3], int(sys.argv[4])))
