"""Connections that break before, in and after a response."""

from __future__ import annotations

import asyncio

import pytest

from processor.core.errors import ConnectionLost, StreamTruncated
from processor.core.events import FirstToken, RequestEvent
from processor.core.models import Target
from processor.http.client import HttpTransport
from processor.http.fast_connection import Connection
from processor.http.idle_connections import IdleConnections
from tests.support.http_exchange import (
    CUT_EVENTS,
    HELLO_WORLD,
    STREAM_HEAD,
    Record,
    ServerConnection,
    ServerScript,
    always,
    close_before_content_length,
    close_before_response,
    close_between_chunks,
    exchange,
    http_chunk,
    make_job,
    malformed_chunk,
    reset_before_response,
    reset_between_chunks,
    response,
    serve,
    text_event,
)


@pytest.mark.parametrize("script", [reset_before_response, close_before_response])
def test_new_connection_that_closes_before_the_response_is_connection_lost(script: ServerScript) -> None:
    record = exchange(script)
    assert type(record.error) is ConnectionLost
    assert not record.error.reused
    assert record.event_names() == ["Sent"]


@pytest.mark.parametrize("end", ["reset", "close"])
def test_used_connection_that_closes_before_the_response_is_reported_as_reused(end: str) -> None:
    async def script(server: ServerConnection) -> None:
        assert server.body
        if server.requests > 1:
            getattr(server, end)()
        else:
            await server.send(response(HELLO_WORLD))

    record = exchange(script, times=2)
    assert len(record.replies) == 1
    assert isinstance(record.errors[0], ConnectionLost)
    assert record.errors[0].reused
    assert record.connections == 1


def test_pooled_connection_that_closes_before_sending_is_reported_as_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> Record:
        record = Record()

        async with serve(always(response(HELLO_WORLD)), record) as port, HttpTransport() as transport:
            target = Target(base_url=f"http://127.0.0.1:{port}")
            await transport(make_job(), target, lambda _: None)
            take = IdleConnections.take

            def close_taken(idle: IdleConnections) -> Connection | None:
                """Runs between the moment the connection is taken from the pool and the first byte."""
                connection = take(idle)
                assert connection is not None and connection.transport is not None
                connection.transport.close()
                return connection

            monkeypatch.setattr(IdleConnections, "take", close_taken)
            with pytest.raises(ConnectionLost) as raised:
                await transport(make_job(), target, record.events.append)
            assert raised.value.reused
        return record

    assert asyncio.run(run()).event_names() == []


def test_connection_that_closes_inside_the_headers_is_not_reported_as_reused() -> None:
    async def script(server: ServerConnection) -> None:
        if server.requests > 1:
            await server.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
            server.close()
        else:
            await server.send(response(HELLO_WORLD))

    record = exchange(script, times=2)
    assert isinstance(record.errors[0], ConnectionLost)
    assert not record.errors[0].reused


@pytest.mark.parametrize(
    "script", [close_between_chunks, reset_between_chunks, close_before_content_length, malformed_chunk]
)
def test_stream_that_breaks_off_is_truncated(script: ServerScript) -> None:
    record = exchange(script)
    assert type(record.error) is StreamTruncated
    assert record.event_names() == ["Sent", "ResponseStarted", "FirstToken"]


@pytest.mark.parametrize(
    "body", [CUT_EVENTS, CUT_EVENTS + b"data: {", text_event("a") + b": alive\n\n", b": alive\n\n"]
)
def test_stream_that_ends_cleanly_but_incomplete_is_truncated(body: bytes) -> None:
    assert type(exchange(response(body)).error) is StreamTruncated


def test_complete_reply_stands_when_the_connection_breaks_after_it() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD + http_chunk(text_event("a", "stop")))
        await asyncio.sleep(0.02)
        server.reset()

    assert exchange(script).text == "a"


def test_json_body_that_breaks_off_is_truncated() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(response(b'{"choices": [{"index": 0}]}', "200 OK", "application/json")[:-5])
        server.close()

    assert type(exchange(script).error) is StreamTruncated


def test_cancelled_request_closes_its_connection() -> None:
    async def run() -> None:
        closed = asyncio.Event()

        async def script(server: ServerConnection) -> None:
            await server.send(STREAM_HEAD + http_chunk(text_event("a")))
            await server.wait_for_close()
            closed.set()

        async with serve(script, Record()) as port, HttpTransport() as transport:
            first_token = asyncio.Event()
            target = Target(base_url=f"http://127.0.0.1:{port}")

            def on_event(event: RequestEvent) -> None:
                if isinstance(event, FirstToken):
                    first_token.set()

            task = asyncio.create_task(transport(make_job(), target, on_event))
            await first_token.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(closed.wait(), 1)

    asyncio.run(run())
