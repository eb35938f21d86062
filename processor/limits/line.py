"""Waiting in line, and being woken at the right moment. Nothing here polls."""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf


class Line:
    """One at a time, first in, first out; retries and new jobs take turns while both wait."""

    def __init__(self) -> None:
        self._new: deque[asyncio.Future[None]] = deque()
        self._retries: deque[asyncio.Future[None]] = deque()
        self._turn_of_retries = True
        self.busy = False

    @property
    def waiting(self) -> int:
        return sum(not future.done() for line in (self._new, self._retries) for future in line) + self.busy

    async def enter(self, *, retry: bool) -> None:
        """Wait for one's turn. Whoever has entered must leave."""
        if not self.busy:
            self.busy = True
            return
        turn = asyncio.get_running_loop().create_future()
        (self._retries if retry else self._new).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        turn = self._next()
        if turn is None:
            self.busy = False
        else:
            turn.set_result(None)

    def _next(self) -> asyncio.Future[None] | None:
        first, second = (self._retries, self._new) if self._turn_of_retries else (self._new, self._retries)
        for line in (first, second):
            while line:
                turn = line.popleft()
                if not turn.done():
                    self._turn_of_retries = line is self._new
                    return turn
        return None


class Bell:
    """Wakes its one listener when it is rung, or at a moment."""

    def __init__(self) -> None:
        self._listener: asyncio.Future[None] | None = None

    def ring(self) -> None:
        if self._listener is not None and not self._listener.done():
            self._listener.set_result(None)

    async def wait(self, until: float = inf) -> None:
        loop = asyncio.get_running_loop()
        self._listener = listener = loop.create_future()
        timer = None if until == inf else loop.call_at(until, self.ring)
        try:
            await listener
        finally:
            self._listener = None
            if timer is not None:
                timer.cancel()
