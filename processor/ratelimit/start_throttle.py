"""Spaces the starts of requests, so that one turn of the event loop has a bounded number of them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

MAX_STARTS_PER_10_MS = 100
"""Cap on starts, also at once: 10,000 a second are more than one process can send."""


class StartThrottle:
    def __init__(self) -> None:
        self._has_started = False

    @cached_property
    def _limiter(self) -> AsyncLimiter:
        from aiolimiter import AsyncLimiter  # its import would delay the first request, which need not wait

        return AsyncLimiter(MAX_STARTS_PER_10_MS, 0.01)

    async def wait_for_turn(self) -> None:
        if self._has_started:
            await self._limiter.acquire()
        self._has_started = True
