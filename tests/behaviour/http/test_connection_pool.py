"""Which connections are used for several requests."""

from __future__ import annotations

import asyncio

from processor.core.events import FirstToken, RequestEvent
from processor.core.models import Reply, Target
from processor.http.client import HttpTransport
from tests.support.http_exchange import (
    HELLO_WORLD,
    LAST_CHUNK,
    STREAM_HEAD,
    Record,
    ServerConnection,
    always,
    event,
    exchange,
    http_chunk,
    in_chunks,
    make_job,
    pooled_connection,
    response,
    serve,
    text_event,
)


def test_connection_is_used_for_several_requests() -> None:
    record = exchange(response(HELLO_WORLD), times=5)
    assert len(record.replies) == 5
    assert record.connections == 1


def test_connection_is_used_again_when_the_response_ends_a_little_later() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD + http_chunk(HELLO_WORLD))
        await asyncio.sleep(0.02)
        await server.send(LAST_CHUNK)

    assert exchange(script, times=3).connections == 1


def test_bytes_after_the_end_marker_are_dropped_and_the_connection_is_used_again() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD + http_chunk(HELLO_WORLD))
        await asyncio.sleep(0.01)
        for _ in range(20):
            await server.send(http_chunk(b": nothing\n" * 50_000))
        await server.send(LAST_CHUNK)

    record = exchange(script, times=2)
    assert record.texts == ["Hello world"] * 2
    assert record.connections == 1


def test_connection_is_used_again_after_an_error_response() -> None:
    record = exchange(response(b'{"error": {"message": "no"}}', "503 Busy", "application/json"), times=3)
    assert len(record.errors) == 3
    assert record.connections == 1


def test_connection_with_unread_bytes_is_not_used_again() -> None:
    stream = b"garbage\n\n" + event(b"{") + text_event("x") * 100_000
    assert exchange(in_chunks(stream, 65_536), times=2).connections == 2


def test_connections_are_not_reused_where_the_server_closes_them_after_replies() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(response(HELLO_WORLD))
        server.reader.feed_eof()  # after the reply, without announcing it
        server.close()

    record = exchange(script, times=60)
    assert len(record.errors) <= 3
    assert len(record.replies) >= 57
    assert sum(b"Connection: close" in head for head in record.request_heads) >= 45


def test_many_requests_are_in_flight_at_once() -> None:
    async def run() -> list[Reply]:
        record = Record()
        all_sent = asyncio.Event()

        async def script(server: ServerConnection) -> None:
            if len(record.request_heads) == 150:
                all_sent.set()
            await all_sent.wait()
            await server.send(response(HELLO_WORLD))

        async with serve(script, record) as port, HttpTransport() as transport:
            target = Target(base_url=f"http://127.0.0.1:{port}")
            return await asyncio.gather(*(transport(make_job(), target, lambda _: None) for _ in range(150)))

    assert len(asyncio.run(asyncio.wait_for(run(), 10))) == 150


def test_reused_connection_keeps_the_observer_of_its_next_request() -> None:
    """It is free when the last byte has come, and may be taken before the task that waited for it continues."""

    class NextRequest:
        def on_headers(self, status: object, headers: object, content: object) -> None: ...

        def on_no_response(self, error: Exception) -> None: ...
        def on_data(self) -> None: ...

        def on_failure(self, error: Exception) -> None: ...

    async def scenario() -> None:
        def on_event(event: RequestEvent) -> None:
            if isinstance(event, FirstToken):
                connection.observer = next_request

        async with serve(always(response(HELLO_WORLD)), Record()) as port, HttpTransport() as transport:
            target, next_request = Target(base_url=f"http://127.0.0.1:{port}"), NextRequest()
            await transport(make_job(), target, lambda _: None)
            connection = pooled_connection(transport)
            assert connection.observer is None
            await transport(make_job(), target, on_event)
            assert connection.observer is next_request

    asyncio.run(scenario())
