"""How a provider counts one resource (requests, or tokens) against a limit per minute. Pure, and exact: integers only.

Times are whole nanoseconds. A bucket's level is kept in minute-nanoseconds (one token is `MINUTE_NS` of
them), so that a limit of N a minute refills exactly N of them each nanosecond and nothing is ever rounded.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Protocol

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
_TRIM_AT = 4096


class ServerCounter(Protocol):
    limit: int
    """Units per minute."""

    def wait_ns(self, now: int, cost: int) -> int | None:
        """Until there is room for this cost if nobody else comes; 0 for now, None for never."""
        ...

    def take(self, now: int, cost: int) -> None:
        """Count it, whether or not there is room."""
        ...

    def waste(self, now: int) -> None:
        """Count one refused request."""
        ...

    def remaining(self, now: int) -> int: ...

    def full_ns(self, now: int) -> int:
        """Until everything taken has come back."""
        ...

    def set_limit(self, now: int, limit: int) -> None: ...


class SlidingWindowCounter:
    """No 60 seconds may hold more than the limit. What was taken at t comes back, whole, at t + 60 s."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._times: list[int] = []
        self._sums: list[int] = []
        self._gone = 0
        """How many entries at the front have left the window."""
        self._total = 0
        self._left = 0
        """The sum of those that have left."""

    def wait_ns(self, now: int, cost: int) -> int | None:
        if cost > self.limit:
            return None
        excess = self._used(now) + cost - self.limit
        if excess <= 0:
            return 0
        # The first entry with whose leaving the excess is gone.
        last = bisect_left(self._sums, self._left + excess, lo=self._gone)
        return self._times[last] + MINUTE_NS - now

    def take(self, now: int, cost: int) -> None:
        self._total += cost
        self._times.append(now)
        self._sums.append(self._total)

    def waste(self, now: int) -> None:
        self.take(now, 1)

    def remaining(self, now: int) -> int:
        return max(0, self.limit - self._used(now))

    def full_ns(self, now: int) -> int:
        return self._times[-1] + MINUTE_NS - now if self._used(now) else 0

    def set_limit(self, now: int, limit: int) -> None:
        self.limit = limit

    def _used(self, now: int) -> int:
        while self._gone < len(self._times) and self._times[self._gone] <= now - MINUTE_NS:
            self._left = self._sums[self._gone]
            self._gone += 1
        if self._gone >= _TRIM_AT:
            del self._times[: self._gone], self._sums[: self._gone]
            self._gone = 0
        return self._total - self._left


class TokenBucketCounter:
    """Refilled continuously; its capacity is what `window_ns` refill, but at least one unit.

    A cost above the capacity (but not above a minute's limit) is let in when the bucket is full, and
    leaves a debt that is refilled first.
    """

    def __init__(self, limit: int, window_ns: int = MINUTE_NS) -> None:
        self.limit = limit
        self._window_ns = window_ns
        self._level = self._capacity
        self._settled_at = 0

    @property
    def _capacity(self) -> int:
        return max(MINUTE_NS, self.limit * self._window_ns)

    def wait_ns(self, now: int, cost: int) -> int | None:
        if cost > self.limit:
            return None
        missing = min(cost * MINUTE_NS, self._capacity) - self._settle(now)
        return max(0, -(-missing // self.limit))

    def take(self, now: int, cost: int) -> None:
        self._level = self._settle(now) - cost * MINUTE_NS

    def waste(self, now: int) -> None:
        """Takes what is left of one unit, and leaves no debt: a hammered bucket stays empty, no more."""
        self._level = min(self._settle(now), max(0, self._level - MINUTE_NS))

    def remaining(self, now: int) -> int:
        return max(0, self._settle(now) // MINUTE_NS)

    def full_ns(self, now: int) -> int:
        return -(-(self._capacity - self._settle(now)) // self.limit)

    def set_limit(self, now: int, limit: int) -> None:
        self._settle(now)
        self.limit = limit
        self._level = min(self._level, self._capacity)

    def _settle(self, now: int) -> int:
        if now > self._settled_at:
            self._level = min(self._capacity, self._level + (now - self._settled_at) * self.limit)
            self._settled_at = now
        return self._level
