"""The open connections to one server that no request uses."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from processor.http.fast_connection import Connection

IDLE_WITHIN_S = 15.0
"""A connection that was not used for so long is closed, as aiohttp does it."""


class IdleConnections:
    """Hands out the connection that was idle longest.

    aiohttp's pool does ten calls, and makes two objects, to take a connection out and to put it back. As it sees it,
    these connections are in use until they are closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._idle: deque[Connection] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def take(self) -> Connection | None:
        """A connection that is open; None if there is none."""
        while self._idle:
            connection = self._idle.popleft()
            transport = connection.transport
            if (
                transport is not None
                and not transport.is_closing()
                and self._loop.time() - connection.idle_since <= IDLE_WITHIN_S
            ):
                return connection
            connection.discard()
        return None

    def put(self, connection: Connection) -> None:
        """Its response has ended: another request may use it."""
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(IDLE_WITHIN_S, self._close_unused)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            self._idle.popleft().discard()

    def _close_unused(self) -> None:
        now, self._timer = self._loop.time(), None
        while self._idle and now - self._idle[0].idle_since >= IDLE_WITHIN_S:
            self._idle.popleft().discard()
        if self._idle:
            self._timer = self._loop.call_at(self._idle[0].idle_since + IDLE_WITHIN_S, self._close_unused)
