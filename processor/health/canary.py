"""Sends one request alone before the others may follow, so that a wrong key, model or limit costs one request.

Two users: the scheduler starts no second job until the endpoint has accepted a request of the first one, and a limit
group of which no limit is known sends its first request alone, because the response may name the limits.
"""

from __future__ import annotations

import asyncio
from math import inf

CANARY_TIMEOUT_S = 2.0
"""How long the other requests wait at most. Some servers send no headers before the reply begins."""


class Canary:
    """One request that is sent alone. Times are seconds on the event loop's clock."""

    __slots__ = ("_alone_until", "_finished")

    def __init__(self) -> None:
        self._alone_until = inf
        """inf before the first request; -inf once the other requests may follow."""
        self._finished = asyncio.Event()

    @property
    def is_cleared(self) -> bool:
        return self._alone_until == -inf

    def start(self, now: float) -> None:
        """A request is sent now. Only the first call starts the timeout."""
        if self._alone_until == inf:
            self._alone_until = now + CANARY_TIMEOUT_S

    def alone_until(self, now: float) -> float | None:
        """Return when the other requests may follow at the latest; None if they may follow now."""
        return self._alone_until if now < self._alone_until else None

    def allow_all(self) -> None:
        """Let the other requests follow, from now on."""
        self._alone_until = -inf
        self._finished.set()

    def let_next_try(self) -> None:
        """The canary was not accepted, and its job has ended or is parked: the next request is sent alone as well."""
        self._finished.set()

    async def wait_until_next_may_start(self) -> None:
        """Wait until another job may be started: after ``allow_all``, after the timeout, or after
        ``let_next_try``.

        Call it right after a job was started. The timeout clears the canary.
        """
        if self.is_cleared:
            return
        self._finished.clear()
        timer = asyncio.get_running_loop().call_later(CANARY_TIMEOUT_S, self.allow_all)
        try:
            await self._finished.wait()
        finally:
            timer.cancel()
