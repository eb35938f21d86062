"""Who is next in a lane, and when it is time to look whether they may go. Nothing here polls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Generic, Protocol, TypeVar


class QueueEntry(Protocol):
    @property
    def is_over(self) -> bool:
        """They have gone, or wait no longer."""


W = TypeVar("W", bound=QueueEntry)


class FairQueue(Generic[W]):
    """First in, first out; retries and new jobs take turns while both wait. Whoever is at the head stays there."""

    def __init__(self) -> None:
        self._new: deque[W] = deque()
        self._retries: deque[W] = deque()
        self._turn_of_retries = True
        self._head: W | None = None

    @property
    def waiting(self) -> int:
        return sum(not one.is_over for one in (self._head, *self._new, *self._retries) if one is not None)

    def join(self, one: W, *, retry: bool) -> None:
        (self._retries if retry else self._new).append(one)

    def head(self) -> W | None:
        """Whose turn it is: the same one until their waiting is over."""
        if self._head is None or self._head.is_over:
            self._head = self._next()
        return self._head

    def _next(self) -> W | None:
        first, second = (self._retries, self._new) if self._turn_of_retries else (self._new, self._retries)
        for line in (first, second):
            while line:
                one = line.popleft()
                if not one.is_over:
                    self._turn_of_retries = line is self._new
                    return one
        return None


class WakeUp:
    """Calls one listener, once: in the turn of the loop after it was rung, or at a moment."""

    def __init__(self) -> None:
        self._listener: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens."""
        return self._listener is not None

    def listen(self, listener: Callable[[], None], until: float = inf) -> None:
        self.hush()
        self._listener = listener
        if until < inf:
            self._timer = asyncio.get_running_loop().call_at(until, self.ring)

    def hush(self) -> None:
        """Nobody listens any more."""
        self._listener = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def ring(self) -> None:
        if (listener := self._listener) is not None:
            self.hush()
            asyncio.get_running_loop().call_soon(listener)
