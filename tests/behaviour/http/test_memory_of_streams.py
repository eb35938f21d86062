"""What a stream holds while its reply is read. Streams take long, and there may be thousands."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from processor.core.events import FirstToken, RequestEvent
from processor.core.models import Target
from processor.http.client import HttpTransport
from tests.support.http_exchange import (
    STREAM_HEAD,
    Record,
    ServerConnection,
    http_chunk,
    make_job,
    serve,
    text_event,
)

STREAMS = 50
COUNTED = [
    tracemalloc.Filter(inclusive=True, filename_pattern=f"*/{package}/*") for package in ("processor", "aiohttp")
]


@pytest.mark.parametrize("prompt_length", [1_000, 100_000])
def test_stream_holds_few_bytes_however_long_its_prompt_is(prompt_length: int) -> None:
    """Its job is not counted: it is needed until the row is written."""
    assert asyncio.run(bytes_of_a_stream(prompt_length)) < 12_000


async def bytes_of_a_stream(prompt_length: int) -> float:
    """Memory of objects that this program and aiohttp make for a stream whose first token has come."""

    async def begin(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD + http_chunk(text_event("a") + text_event("b")))
        await server.wait_for_close()

    has_begun = asyncio.Semaphore(0)

    def on_event(event: RequestEvent) -> None:
        if isinstance(event, FirstToken):
            has_begun.release()

    job = make_job(messages=[{"role": "user", "content": "x" * prompt_length}])
    async with serve(begin, Record()) as port, HttpTransport() as transport:
        target = Target(base_url=f"http://127.0.0.1:{port}/v1")
        tasks: list[asyncio.Task[object]] = []

        async def start(streams: int) -> None:
            for _ in range(streams):
                tasks.append(asyncio.create_task(transport(job, target, on_event)))
                await has_begun.acquire()

        await start(1)
        tracemalloc.start()
        try:
            await start(STREAMS)
            snapshot = tracemalloc.take_snapshot().filter_traces(COUNTED)
        finally:
            tracemalloc.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return sum(trace.size for trace in snapshot.traces) / STREAMS
