"""Sends requests one at a time until a response has been understood: what is wrong then costs one request at a time.

alone ──── understood ──────────────────────────► cleared, for good
  ▲ └───── nothing refused within the timeout ──► open ─── understood ──► cleared
  └────────────────── refused ◄────────────────────┘
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

TIMEOUT_WITH_KEY_S = 2.0
"""How long the other requests wait at most, where none is refused: a server that checks keys takes its time."""
TIMEOUT_WITHOUT_KEY_S = 0.3


class Canary:
    """Takes requests in turn: ``acquire`` before each one, ``release`` after it, until it is cleared."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.on_available: Callable[[], None] = lambda: None
        """Called when a turn is free that was not."""
        self.is_cleared = False
        """A response has been understood: any number of requests may be sent."""
        self._is_open = False
        self._has_refusal = False
        self._active = 0
        self._woken = 0
        """Those that were given a turn, and whose tasks have not run since: nobody may overtake them."""
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self) -> None:
        """Wait for the turn to send a request, first come, first served. If cancelled, no turn has been taken."""
        while self._woken:  # noqa: ASYNC110 - they run in the next iteration of the loop
            await asyncio.sleep(0)
        if self.has_free_turn:
            self._active += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._woken -= 1
                self.release()
            raise
        self._woken -= 1

    def release(self) -> None:
        """The request has ended, or is not sent."""
        self._active -= 1
        self._wake()

    def on_sent(self) -> None:
        """A request is being sent. The first one starts the timeout."""
        if self._timer is None and not self.is_cleared and not self._has_refusal:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._open)

    def on_refused(self) -> None:
        """A request was refused, or its response not understood: until one is, requests are sent one at a time."""
        if not self.is_cleared:
            self._has_refusal = True
            self._is_open = False
            self._stop_timer()

    def on_understood(self) -> None:
        """A response makes sense: all may follow."""
        if not self.is_cleared:
            self.is_cleared = True
            self._stop_timer()
            self._wake()

    def take(self) -> None:
        """Take a turn, which must be free."""
        self._active += 1

    @property
    def is_over(self) -> bool:
        """Whether requests need no turn: a response was understood, and nobody is left who has waited for one."""
        return self.is_cleared and not self._woken

    @property
    def is_undecided(self) -> bool:
        """Whether a first request is out, and nothing has been refused yet."""
        return not (self.is_cleared or self._is_open or self._has_refusal) and self._active > 0

    @property
    def has_free_turn(self) -> bool:
        return self.is_cleared or self._is_open or not (self._active or self._waiters)

    def _open(self) -> None:
        self._is_open = True
        self._wake()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        """Give turns to those that wait: to all, or to the first."""
        self.on_available()
        while self._waiters and (self.is_cleared or self._is_open or not self._active):
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._active += 1
                self._woken += 1
                waiter.set_result(None)
