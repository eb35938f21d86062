"""Streams of Responses and Messages over HTTP: their end is noticed at once, and a broken connection keeps nothing."""

from __future__ import annotations

from typing import Any

import pytest

from processor.core.errors import StreamTruncated
from processor.core.events import Delta
from processor.core.models import Job
from tests.support.event_transcripts import MESSAGE_BODY, MESSAGE_EVENTS, RESPONSE_BODY, RESPONSE_EVENTS, as_stream
from tests.support.http_exchange import LAST_CHUNK, STREAM_HEAD, ServerConnection, exchange, http_chunk
from tests.support.protocol_jobs import job_for

STREAMS = pytest.mark.parametrize(
    ("job", "events", "body"),
    [
        (job_for("/v1/responses", input="hi"), RESPONSE_EVENTS, RESPONSE_BODY),
        (job_for("/v1/messages", messages=[], max_tokens=9), MESSAGE_EVENTS, MESSAGE_BODY),
    ],
    ids=["responses", "messages"],
)


@STREAMS
@pytest.mark.parametrize("size", [7, 100, 1000, 100_000])
def test_stream_whose_connection_stays_open_ends_with_its_last_event(
    job: Job, events: list[Any], body: Any, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processor.http.body_reader._END_WITHIN_S", 0.01)
    stream = as_stream(events)

    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD)
        for start in range(0, len(stream), size):
            await server.send(http_chunk(stream[start : start + size]))
        await server.wait_for_close()

    record = exchange(script, job=job, stall_timeout_s=60.0)
    assert record.replies[0].body == body
    assert record.event_names() == ["Sent", "ResponseStarted", "FirstToken"]


@STREAMS
def test_connection_that_breaks_before_the_last_event_keeps_nothing(job: Job, events: list[Any], body: Any) -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD + http_chunk(as_stream(events[:-1])))
        server.writer.close()

    assert isinstance(exchange(script, job=job).errors[0], StreamTruncated)


@STREAMS
def test_text_is_reported_as_it_comes(job: Job, events: list[Any], body: Any) -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD + b"".join(http_chunk(as_stream([event])) for event in events) + LAST_CHUNK)

    deltas = [event.text for event in exchange(script, job=job, echo=True).events if isinstance(event, Delta)]
    assert "".join(deltas) == "Größe: 寿司 🙂"
