"""Spaces the starts of requests, so that one turn of the event loop has a bounded number of them."""

from __future__ import annotations

from functools import cached_property
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

MAX_STARTS_PER_10_MS = 100
"""Cap on starts, also at once: 10,000 a second are more than one process can send."""


class StartThrottle:
    """Up to ``MAX_STARTS_PER_10_MS`` are only counted, which costs next to nothing and nearly always suffices. Those
    behind them wait in their order, as long as any waits."""

    def __init__(self) -> None:
        self._started = 0
        """In the 10 ms that end at ``_counted_until``, on the event loop's clock."""
        self._counted_until = -inf
        self._waiting = 0

    def is_free(self, now: float) -> bool:
        """Whether a request may start now, which is then counted. If not, ``wait_for_turn``."""
        if self._waiting:
            return False
        if now >= self._counted_until:
            self._started, self._counted_until = 0, now + 0.01
        self._started += 1
        return self._started <= MAX_STARTS_PER_10_MS

    @cached_property
    def _limiter(self) -> AsyncLimiter:
        from aiolimiter import AsyncLimiter  # its import would delay the first request, which need not wait

        return AsyncLimiter(1, 0.01 / MAX_STARTS_PER_10_MS)

    async def wait_for_turn(self) -> None:
        self._waiting += 1
        try:
            await self._limiter.acquire()
        finally:
            self._waiting -= 1
