"""How long a request waits for a server that is slow or silent."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
import uvloop

from processor.core.errors import ServerError, StreamStalled, Timeout
from processor.core.events import FirstToken, RequestEvent
from processor.core.models import Target
from processor.http.client import HttpTransport
from tests.support.http_exchange import (
    HELLO_WORLD,
    LAST_CHUNK,
    STREAM_HEAD,
    Record,
    ServerConnection,
    ServerScript,
    always,
    exchange,
    http_chunk,
    make_job,
    response,
    serve,
    silent,
    text_event,
    transport_settings,
)


async def silent_after_headers(server: ServerConnection) -> None:
    await server.send(STREAM_HEAD)
    await silent(server)


async def silent_after_text(server: ServerConnection) -> None:
    await server.send(STREAM_HEAD + http_chunk(text_event("a")))
    await silent(server)


@pytest.mark.parametrize("script", [silent, silent_after_headers])
def test_missing_first_byte_times_out(script: ServerScript) -> None:
    record = exchange(script, first_byte_timeout_s=0.1, stall_timeout_s=0.02)
    assert type(record.error) is Timeout
    assert str(record.error) == "no first byte within 0.1 s (first_byte_timeout_s)"
    assert 0.09 < record.duration_s < 1


def test_silence_after_the_first_byte_is_a_stall() -> None:
    record = exchange(silent_after_text, stall_timeout_s=0.1)
    assert type(record.error) is StreamStalled
    assert 0.09 < record.duration_s < 1


def test_keep_alive_comments_prevent_a_stall() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD)
        for _ in range(10):
            await server.send(http_chunk(b": alive\n\n"))
            await asyncio.sleep(0.03)
        await server.send(http_chunk(HELLO_WORLD) + LAST_CHUNK)

    assert exchange(script, stall_timeout_s=0.15, first_byte_timeout_s=0.15).text == "Hello world"


def test_endless_reply_times_out() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD)
        while True:
            await server.send(http_chunk(text_event("a")))
            await asyncio.sleep(0.01)

    record = exchange(script, request_timeout_s=0.15)
    assert type(record.error) is Timeout
    assert str(record.error) == "no whole reply within 0.15 s (request_timeout_s)"


def test_complete_reply_stands_when_the_response_never_ends() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD + http_chunk(text_event("a", "stop")))
        await silent(server)

    assert exchange(script, stall_timeout_s=0.1).text == "a"


def test_response_end_is_awaited_briefly_after_the_end_marker() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD + http_chunk(HELLO_WORLD))
        await silent(server)

    record = exchange(script)
    assert record.text == "Hello world"
    assert record.duration_s < 0.5


def test_server_that_does_not_read_the_request_times_out() -> None:
    async def run() -> Record:
        record = Record()
        listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        target = Target(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        async with HttpTransport(transport_settings(first_byte_timeout_s=0.1)) as transport:
            with pytest.raises(Timeout):
                await transport(make_job(prompt="x" * 30_000_000), target, record.events.append)
        listener.close()
        return record

    assert asyncio.run(asyncio.wait_for(run(), 5)).event_names() == ["Sent"]


def test_timeout_after_the_last_byte_does_not_close_the_connection() -> None:
    """The timer may fire before the task continues, when another request may already use the connection."""

    async def scenario() -> int:
        def on_event(event: RequestEvent) -> None:
            if isinstance(event, FirstToken):
                time.sleep(0.1)

        record = Record()
        async with (
            serve(always(response(HELLO_WORLD)), record) as port,
            HttpTransport(transport_settings(stall_timeout_s=0.05)) as transport,
        ):
            for _ in range(3):
                await transport(make_job(), Target(base_url=f"http://127.0.0.1:{port}"), on_event)
        return record.connections

    assert uvloop.run(scenario()) == 1


def test_error_response_without_an_end_is_awaited_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.http.request.ERROR_BODY_WITHIN_S", 0.1)

    async def script(server: ServerConnection) -> None:
        await server.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 900\r\n\r\nbusy")
        await silent(server)

    record = exchange(script)
    assert type(record.error) is ServerError
    assert record.duration_s < 1
