"""Sends one request alone before the others may follow, so that a wrong key, model or limit costs one request.

Two users: the scheduler starts no second job until the endpoint has accepted a request of the first one, and a limit
group of which no limit is known sends its first request alone, because the response may name the limits.
"""

from __future__ import annotations

import asyncio
from math import inf

CANARY_TIMEOUT_S = 2.0
"""The longest time for which the other requests wait: a server may hold its headers back until the reply begins."""


class Canary:
    """One request that goes alone. Times are seconds on the event loop's clock."""

    __slots__ = ("_alone_until", "_finished")

    def __init__(self) -> None:
        self._alone_until = inf
        """inf before the first request; -inf once the other requests may follow."""
        self._finished = asyncio.Event()

    @property
    def is_cleared(self) -> bool:
        return self._alone_until == -inf

    def start(self, now: float) -> None:
        """A request is sent now. Only the first one starts the clock."""
        if self._alone_until == inf:
            self._alone_until = now + CANARY_TIMEOUT_S

    def alone_until(self, now: float) -> float | None:
        """When the other requests may follow at the latest; None if they may follow now."""
        return self._alone_until if now < self._alone_until else None

    def clear(self) -> None:
        """Let the other requests follow, from now on."""
        self._alone_until = -inf
        self._finished.set()

    def finish(self) -> None:
        """The request that went alone has failed in a way that says nothing of the others: the next one goes alone."""
        self._finished.set()

    async def wait_until_next_may_start(self) -> None:
        """Return when another job may be started, in parallel after ``clear`` or the timeout, else after ``finish``.

        To be awaited right after a job was started.
        """
        if self.is_cleared:
            return
        self._finished.clear()
        timer = asyncio.get_running_loop().call_later(CANARY_TIMEOUT_S, self.clear)
        try:
            await self._finished.wait()
        finally:
            timer.cancel()
