"""An exception of this program in a callback of a connection ends the run: it is no broken connection."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.client_proto import ResponseHandler

import processor
from processor.core import exit_codes
from processor.core.errors import InternalError
from processor.core.models import Target
from processor.http import fast_connection
from processor.http.body_reader import BodyReader
from processor.http.client import HttpTransport
from processor.http.event_stream import SseParser
from processor.http.fast_connection import Connection
from processor.http.request import HttpRequest
from processor.simulator.settings import INSTANT
from tests.support.cli_world import KEY, Server, chat_jobs
from tests.support.http_exchange import (
    HELLO_WORLD,
    Record,
    ServerScript,
    always,
    close_between_chunks,
    exchange,
    in_chunks,
    make_job,
    pooled_connection,
    response,
    serve,
)


def failing(*args: object, **options: object) -> Any:
    raise AttributeError("a bug")


CALLBACKS = [
    (Connection, "_receive_headers"),
    (Connection, "feed_data"),
    (Connection, "_close_on_surplus"),
    (HttpRequest, "on_headers"),
    (HttpRequest, "_set_parser"),
    (HttpRequest, "_on_sent"),
    (BodyReader, "_read"),
    (BodyReader, "on_data"),
    (SseParser, "feed"),
    (SseParser, "_flush"),
]


@pytest.fixture(params=CALLBACKS, ids=lambda callback: f"{callback[0].__name__}.{callback[1]}")
def broken_callback(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name = request.param
    monkeypatch.setattr(owner, name, failing)


@pytest.fixture(autouse=True)
def _checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections have passed the check, which would find the bug at once."""
    monkeypatch.setattr("processor.http.self_check._result", [None])


def raised_by(answer: bytes | ServerScript) -> Exception:
    """What a request raises that gets this answer."""
    try:
        return exchange(answer).error
    except AttributeError as error:
        return error


@pytest.mark.usefixtures("broken_callback")
@pytest.mark.parametrize("answer", [response(HELLO_WORLD), in_chunks(HELLO_WORLD, 20)], ids=["whole", "in chunks"])
def test_exception_in_a_callback_is_raised_as_a_bug(answer: bytes | ServerScript) -> None:
    error = raised_by(answer)
    assert isinstance(error, InternalError | AttributeError)
    assert "a bug" in str(error)


def test_exception_when_a_connection_is_lost_is_raised_as_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResponseHandler, "connection_lost", failing)
    assert type(raised_by(close_between_chunks)) is InternalError


def test_exception_in_a_connection_that_no_request_observes_is_raised_as_a_bug(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast_connection, "socket_fd", failing)
    assert type(raised_by(response(HELLO_WORLD))) is InternalError


def test_exception_in_an_idle_connection_is_raised_by_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> Record:
        async with serve(always(response(HELLO_WORLD)), record := Record()) as port, HttpTransport() as transport:
            target = Target(base_url=f"http://127.0.0.1:{port}")
            await transport(make_job(), target, lambda _: None)
            monkeypatch.setattr(Connection, "_receive_headers", failing)
            pooled_connection(transport).data_received(b"stray")
            with pytest.raises(InternalError, match="a bug"):
                await transport(make_job(), target, lambda _: None)
        return record

    assert len(asyncio.run(asyncio.wait_for(scenario(), 10)).request_heads) == 1


@pytest.mark.usefixtures("broken_callback")
def test_exception_in_a_callback_ends_the_run_and_nothing_is_sent_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = Server(INSTANT)
    try:
        jobs = tmp_path / "jobs.jsonl"
        jobs.write_text("".join(json.dumps(job) + "\n" for job in chat_jobs(5)), encoding="utf-8")
        settings = processor.Settings(base_url=server.base_url, concurrency=1)
        plan = processor.Plan(jobs=str(jobs), out=str(tmp_path / "r.jsonl"), settings=settings, quiet=True)
        assert processor.run(plan, environ={"OPENAI_API_KEY": KEY}) == exit_codes.INTERNAL_ERROR
        assert len(server.requests) <= 1
        assert "internal error: " in capfd.readouterr().err
    finally:
        server.close()
