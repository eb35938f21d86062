"""Counters of one resource (requests, or tokens) against a limit per minute. Pure; exact integer arithmetic.

Times are whole nanoseconds. A bucket's level is kept in units times nanoseconds per minute: one token counts
`MINUTE_NS`, so that a limit of N a minute refills exactly N each nanosecond, without rounding.
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

    def ns_until_fits(self, now_ns: int, cost: int) -> int | None:
        """Time until this cost fits if nothing else is counted: 0 if it fits now, None if it exceeds the limit."""
        ...

    def count(self, now_ns: int, cost: int) -> None:
        """Count an admitted request, whether or not it fits."""
        ...

    def count_throttled(self, now_ns: int) -> None:
        """Count one throttled request."""
        ...

    def give_back(self, now_ns: int, counted_at_ns: int, cost: int) -> None:
        """Give back a part of what was counted at `counted_at_ns`."""
        ...

    def remaining(self, now_ns: int) -> int:
        """Units that may be used now."""
        ...

    def ns_until_reset(self, now_ns: int) -> int:
        """Time until the whole limit is available again."""
        ...

    def set_limit(self, now_ns: int, limit: int) -> None:
        """Change the limit; what was used stays used."""
        ...


class SlidingWindowCounter:
    """No 60-second window holds more than the limit. What was counted at t is free again at t + 60 s."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._times: list[int] = []
        self._running_totals: list[int] = []
        self._expired_entries = 0
        """Number of entries at the front that are older than the window."""
        self._total = 0
        self._expired_total = 0
        """The sum of the expired entries."""

    def ns_until_fits(self, now_ns: int, cost: int) -> int | None:
        if cost > self.limit:
            return None
        excess = self._used(now_ns) + cost - self.limit
        if excess <= 0:
            return 0
        # The first entry whose expiry frees enough.
        last = bisect_left(self._running_totals, self._expired_total + excess, lo=self._expired_entries)
        return self._times[last] + MINUTE_NS - now_ns

    def count(self, now_ns: int, cost: int) -> None:
        self._total += cost
        if self._times and self._times[-1] == now_ns and self._expired_entries < len(self._times):
            self._running_totals[-1] = self._total
            return
        self._times.append(now_ns)
        self._running_totals.append(self._total)

    def count_throttled(self, now_ns: int) -> None:
        self.count(now_ns, 1)

    def give_back(self, now_ns: int, counted_at_ns: int, cost: int) -> None:
        self._used(now_ns)
        at = bisect_left(self._times, counted_at_ns, lo=self._expired_entries)
        if at == len(self._times) or self._times[at] != counted_at_ns:
            return  # it is older than the window
        self._total -= cost
        self._running_totals[at:] = [total - cost for total in self._running_totals[at:]]

    def remaining(self, now_ns: int) -> int:
        return max(0, self.limit - self._used(now_ns))

    def ns_until_reset(self, now_ns: int) -> int:
        return self._times[-1] + MINUTE_NS - now_ns if self._used(now_ns) else 0

    def set_limit(self, now_ns: int, limit: int) -> None:
        self.limit = limit

    def _used(self, now_ns: int) -> int:
        while self._expired_entries < len(self._times) and self._times[self._expired_entries] <= now_ns - MINUTE_NS:
            self._expired_total = self._running_totals[self._expired_entries]
            self._expired_entries += 1
        if self._expired_entries >= _TRIM_AT:
            del self._times[: self._expired_entries], self._running_totals[: self._expired_entries]
            self._expired_entries = 0
        return self._total - self._expired_total


class TokenBucketCounter:
    """A token bucket. Its capacity is what it refills in `window_ns`, and at least one unit.

    A cost above the capacity, but not above the limit of a minute, is admitted when the bucket is full, and leaves a
    negative level.
    """

    def __init__(self, limit: int, window_ns: int = MINUTE_NS) -> None:
        self.limit = limit
        self._window_ns = window_ns
        self._level = self._capacity
        self._refilled_at_ns = 0

    @property
    def _capacity(self) -> int:
        return max(MINUTE_NS, self.limit * self._window_ns)

    def ns_until_fits(self, now_ns: int, cost: int) -> int | None:
        if cost > self.limit:
            return None
        missing = min(cost * MINUTE_NS, self._capacity) - self._refill(now_ns)
        return max(0, -(-missing // self.limit))

    def count(self, now_ns: int, cost: int) -> None:
        self._level = self._refill(now_ns) - cost * MINUTE_NS

    def count_throttled(self, now_ns: int) -> None:
        """Takes one unit or what is left of it: throttled requests keep the bucket empty, but never below 0."""
        self._level = min(self._refill(now_ns), max(0, self._level - MINUTE_NS))

    def give_back(self, now_ns: int, counted_at_ns: int, cost: int) -> None:
        self._level = min(self._capacity, self._refill(now_ns) + cost * MINUTE_NS)

    def remaining(self, now_ns: int) -> int:
        return max(0, self._refill(now_ns) // MINUTE_NS)

    def ns_until_reset(self, now_ns: int) -> int:
        return -(-(self._capacity - self._refill(now_ns)) // self.limit)

    def set_limit(self, now_ns: int, limit: int) -> None:
        self._refill(now_ns)
        self.limit = limit
        self._level = min(self._level, self._capacity)

    def _refill(self, now_ns: int) -> int:
        if now_ns > self._refilled_at_ns:
            self._level = min(self._capacity, self._level + (now_ns - self._refilled_at_ns) * self.limit)
            self._refilled_at_ns = now_ns
        return self._level
