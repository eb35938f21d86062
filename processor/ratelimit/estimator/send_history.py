"""What this process has sent, and what that means to the two kinds of counting servers. Pure; times are passed in.

A server keeps a limit of N a minute in one of two ways: no 60-second window may hold more than N
(``window``), or a bucket of N is refilled by N / 60 a second (``bucket``). Both are followed here as if
nobody else used the key and each request were counted the moment it is sent.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from math import inf

WINDOW_S = 60.0

LATENCY_JITTER_S = 0.1
"""How much longer one request may be on its way to the server than another."""

MERGE_S = 0.005
"""What is sent this close together is one entry: memory is bounded by time, not by the rate."""

ORDER_CERTAIN_S = LATENCY_JITTER_S + MERGE_S
"""Two requests sent this far apart are surely counted in that order."""

LATE_ARRIVAL_S = 0.5
"""On a busy machine, or a poor line, one request in many takes so much longer."""

_KEPT_S = 2 * WINDOW_S + 1
"""A response that starts a minute after its request was sent still finds what the window held then."""

_TRIM_AT = 2048


class SendHistory:
    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.rate = limit / WINDOW_S
        """Units per second."""
        self.late_arrival_s = 0.0
        """How much later than that own requests are taken to leave a window: the way there may be longer at times."""
        self.total = 0.0
        self._times = [-inf]
        self._sums = [0.0]
        """Sent up to and with this entry, ever."""
        self._levels = [limit]
        """In the bucket, after this entry."""

    def add(self, at: float, amount: float) -> None:
        """Times may not go back; where they do a little, the latest so far counts."""
        self.total += amount
        if at - self._times[-1] < MERGE_S:
            self._sums[-1] = self.total
            self._levels[-1] -= amount
            return
        self._levels.append(self._refilled(-1, at) - amount)
        self._times.append(at)
        self._sums.append(self.total)
        if len(self._times) > _TRIM_AT and self._times[_TRIM_AT // 2] < at - _KEPT_S:
            self._trim(at - _KEPT_S)

    def correct(self, sent_at: float, amount: float) -> None:
        """What was sent then costs more by this (negative: less), as the server finds out now."""
        entry = bisect_right(self._times, sent_at) - 1
        if entry > 0:
            self.total += amount
            self._sums[entry:] = [total + amount for total in self._sums[entry:]]
            self._levels[-1] = min(self.limit, self._levels[-1] - amount)

    def total_sent_by(self, at: float) -> float:
        """All that was sent at this time or before."""
        return self._sums[max(0, bisect_right(self._times, at) - 1)]

    def in_window(self, now: float) -> float:
        """The most that a window on the server may hold of it now."""
        return self.total - self.total_sent_by(now - WINDOW_S - ORDER_CERTAIN_S - self.late_arrival_s)

    def window_frees_at(self, amount: float, now: float) -> float:
        """From when on a window surely holds less than now by this amount; inf where it does not hold so much."""
        if amount <= 0:
            return now
        entry = bisect_left(self._sums, self.total - self.in_window(now) + amount - 1e-6)
        return (
            self._times[entry] + WINDOW_S + ORDER_CERTAIN_S + self.late_arrival_s if entry < len(self._times) else inf
        )

    def bounds(self, at: float) -> tuple[float, float, float]:
        """What was sent surely before what was sent then, until then, and not surely after it."""
        times, sums = self._times, self._sums
        by = bisect_right(times, at)
        before = bisect_right(times, at - ORDER_CERTAIN_S, 0, by)
        after = bisect_right(times, at + ORDER_CERTAIN_S, by)
        return sums[before - 1 if before else 0], sums[by - 1 if by else 0], sums[after - 1 if after else 0]

    def level(self, at: float) -> float:
        """In the bucket at this time, with all sent by then taken out."""
        return self._refilled(max(0, bisect_right(self._times, at) - 1), at)

    def level_reached_at(self, level: float) -> float:
        """From when on the bucket holds this much, if nothing more is sent: may be past. As if it never were full."""
        return self._times[-1] + max(0.0, level - self._levels[-1]) / self.rate

    def set_limit(self, limit: float, since: float = -inf) -> None:
        """The bucket was full until then, and has been refilled by this limit from then on."""
        self.limit = limit
        self.rate = limit / WINDOW_S
        first = max(1, bisect_left(self._times, since))
        self._levels[:first] = [limit] * first
        for i in range(first, len(self._times)):
            amount = self._sums[i] - self._sums[i - 1]
            self._levels[i] = self._refilled(i - 1, self._times[i]) - amount

    def _refilled(self, entry: int, at: float) -> float:
        return min(self.limit, self._levels[entry] + max(0.0, at - self._times[entry]) * self.rate)

    def _trim(self, before: float) -> None:
        old = bisect_right(self._times, before) - 1
        if old > 0:
            del self._times[:old], self._sums[:old], self._levels[:old]
