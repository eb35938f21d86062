"""The check that decides between the fast connections and aiohttp's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import ClientPayloadError, TCPConnector

from processor.core.models import Target
from processor.http import fast_connection, self_check
from processor.http.client import HttpTransport
from processor.http.fast_connection import Connection, UnmeteredStreamReader
from processor.http.fast_connector import FastConnector
from tests.support.http_exchange import HELLO_WORLD, Record, always, make_job, response, serve


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_result", [])


def difference() -> str | None:
    return asyncio.run(self_check.difference())


def failing(*args: object, **options: object) -> Any:
    raise AttributeError("renamed")


def test_fast_connections_read_the_canned_responses_as_aiohttp_does() -> None:
    assert difference() is None


@pytest.mark.parametrize("name", ["_receive_headers", "resume_reading", "connection_lost"])
def test_method_that_raises_is_a_difference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_MAX_S", 0.1)
    monkeypatch.setattr(Connection, name, failing)
    assert difference() is not None


def test_other_bytes_are_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    read = UnmeteredStreamReader.read_nowait
    monkeypatch.setattr(UnmeteredStreamReader, "read_nowait", lambda self: read(self).replace(b'"2"', b'"3"'))
    assert difference() == "canned response 1 is read differently"


def test_lost_bytes_are_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UnmeteredStreamReader, "feed_data", lambda self, data, size=0: False)
    assert difference() is not None


def test_response_that_never_ends_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_MAX_S", 0.1)
    monkeypatch.setattr(UnmeteredStreamReader, "feed_eof", lambda self: None)
    assert difference() is not None


def test_slow_machine_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_MAX_S", 0.0)
    assert difference() is None


def test_error_in_the_middle_of_a_body_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: UnmeteredStreamReader) -> bytes:
        raise ClientPayloadError("broken")

    monkeypatch.setattr(UnmeteredStreamReader, "read_nowait", broken)
    assert difference() == "canned response 1 is read differently"


def test_idle_connection_that_stays_open_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "_close_at_once", lambda self: None)
    assert "an idle connection stays open" in str(difference())


def test_check_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert difference() is None
    monkeypatch.setattr(Connection, "_receive_headers", failing)
    assert difference() is None


def test_run_uses_aiohttps_connections_and_says_so_where_anything_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_connection.Connection, "_receive_headers", failing)
    notices: list[str] = []

    async def scenario() -> type:
        async with (
            serve(always(response(HELLO_WORLD)), Record()) as port,
            HttpTransport(on_notice=notices.append) as transport,
        ):
            reply = await transport(make_job(), Target(base_url=f"http://127.0.0.1:{port}"), lambda _: None)
            assert reply.status_code == 200
            return type(transport._keepalive_session.connector)

    assert asyncio.run(scenario()) is TCPConnector
    (notice,) = notices
    assert "fast connections" in notice
    assert "renamed" in notice


def test_run_uses_the_fast_connections_and_says_nothing_where_nothing_differs() -> None:
    notices: list[str] = []

    async def scenario() -> type:
        async with HttpTransport(on_notice=notices.append) as transport:
            return type(transport._keepalive_session.connector)

    assert asyncio.run(scenario()) is FastConnector
    assert notices == []
