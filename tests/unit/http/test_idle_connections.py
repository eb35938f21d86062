"""The connections that no request uses, on the virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from processor.http.fast_connection import Connection
from processor.http.idle_connections import IDLE_WITHIN_S, IdleConnections
from processor.simulator.virtual_clock import run


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self._is_closing = False

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class FakeLease:
    """Closes the connection, as aiohttp does it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        self._connection.close()


def connected(idle: IdleConnections) -> Connection:
    connection = Connection(asyncio.get_running_loop())
    connection.connection_made(FakeTransport())
    connection.use_lease(cast("Any", FakeLease(connection)), idle)
    return connection


def is_open(connection: Connection) -> bool:
    return connection.transport is not None and not connection.transport.is_closing()


def test_connection_that_was_idle_longest_is_taken_first() -> None:
    async def scenario() -> None:
        idle = IdleConnections(asyncio.get_running_loop())
        first, second = connected(idle), connected(idle)
        assert idle.take() is None
        idle.put(first)
        idle.put(second)
        assert idle.take() is first
        assert idle.take() is second
        assert idle.take() is None
        idle.close()

    run(scenario())


def test_connection_that_has_closed_is_passed_over() -> None:
    async def scenario() -> None:
        idle = IdleConnections(asyncio.get_running_loop())
        closing, lost, opened = connected(idle), connected(idle), connected(idle)
        for connection in (closing, lost, opened):
            idle.put(connection)
        assert closing.transport is not None
        closing.transport.close()
        lost.connection_lost(None)
        assert idle.take() is opened
        assert idle.take() is None
        idle.close()

    run(scenario())


def test_connection_is_closed_when_it_was_idle_too_long() -> None:
    async def scenario() -> None:
        idle = IdleConnections(asyncio.get_running_loop())
        early, late = connected(idle), connected(idle)
        idle.put(early)
        await asyncio.sleep(10)
        idle.put(late)
        await asyncio.sleep(IDLE_WITHIN_S - 10 + 0.1)
        assert [is_open(early), is_open(late)] == [False, True]
        await asyncio.sleep(10)
        assert not is_open(late)
        assert idle.take() is None

    run(scenario())


def test_closing_closes_the_connections_that_no_request_uses() -> None:
    async def scenario() -> None:
        idle = IdleConnections(asyncio.get_running_loop())
        used, unused = connected(idle), connected(idle)
        idle.put(used)
        idle.put(unused)
        assert idle.take() is used
        idle.close()
        assert [is_open(used), is_open(unused)] == [True, False]

    run(scenario())
