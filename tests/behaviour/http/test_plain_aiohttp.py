"""The transport on aiohttp's own connections, which it must work with where the fast ones cannot be used."""

from __future__ import annotations

from functools import partial

import pytest

from processor.core.errors import ConnectionLost, StreamStalled, StreamTruncated, Throttled
from processor.http.fast_connector import create_session
from tests.support.http_exchange import (
    DONE,
    HELLO_WORLD,
    STREAM_HEAD,
    ServerConnection,
    close_between_chunks,
    exchange,
    http_chunk,
    in_chunks,
    reset_before_response,
    response,
    silent,
    text_event,
)


@pytest.fixture(autouse=True)
def plain_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.http.client.create_session", partial(create_session, fast=False))


def test_replies_are_read_and_their_connection_is_used_again() -> None:
    record = exchange(in_chunks(HELLO_WORLD, 30), times=3)
    assert record.texts == ["Hello world"] * 3
    assert record.connections == 1
    assert record.event_names() == ["Sent", "ResponseStarted", "FirstToken"] * 3


def test_many_events_are_read() -> None:
    assert exchange(response(text_event("x") * 20_000 + text_event("", "stop") + DONE)).text == "x" * 20_000


def test_broken_stream_is_truncated() -> None:
    assert type(exchange(close_between_chunks).error) is StreamTruncated


def test_connection_reset_before_the_response_is_connection_lost() -> None:
    assert type(exchange(reset_before_response).error) is ConnectionLost


def test_silent_stream_is_a_stall() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD + http_chunk(text_event("a")))
        await silent(server)

    assert type(exchange(script, stall_timeout_s=0.1).error) is StreamStalled


def test_throttled_request_has_its_wait() -> None:
    answer = response(b'{"error": {"message": "slow down"}}', "429 Slow", "application/json", "Retry-After: 7")
    error = exchange(answer).error
    assert isinstance(error, Throttled)
    assert error.retry_after_s == 7
