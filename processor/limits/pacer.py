"""Even pacing, by aiolimiter.

A leaky bucket of N a minute lets almost 2 N through in its first minute: a full burst, then the refill. So
the limiter here is small: it holds one request, or a quarter of a second's tokens, and larger amounts are
acquired in slices. Waiters of aiolimiter overtake each other by size; only the head of a lane waits here.
"""

from __future__ import annotations

from aiolimiter import AsyncLimiter

HOLDS_S = 0.25


class Pacer:
    """Paces one resource. ``rate``: units per second; ``unit``: the least amount that is let through whole."""

    def __init__(self, rate: float, unit: float) -> None:
        self._unit = unit
        self._debt = 0.0
        self.set_rate(rate)

    def set_rate(self, rate: float) -> None:
        self.rate = rate
        self._limiter = AsyncLimiter(holds := max(self._unit, rate * HOLDS_S), holds / rate)

    def ready(self, amount: float) -> bool:
        return not self._debt and self._limiter.has_capacity(min(amount, self._limiter.max_rate))

    async def pace(self, amount: float) -> None:
        """Wait until this much may go. What exceeds the limiter's size is owed, and waited for by the next."""
        while self._debt > 0:
            part = min(self._debt, self._limiter.max_rate)
            await self._limiter.acquire(part)
            self._debt -= part
        first = min(amount, self._limiter.max_rate)
        await self._limiter.acquire(first)
        self._debt = amount - first
