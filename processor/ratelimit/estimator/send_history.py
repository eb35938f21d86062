"""What this process has sent, and what it amounts to under the two kinds of counting servers. Pure.

A server keeps a limit of N a minute in one of two ways: no 60-second window may hold more than N (*window*), or a
bucket of N is refilled by N / 60 a second (*bucket*). The history follows both, as if no other client used the key and
each request were counted at the moment it is sent.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from math import inf

WINDOW_S = 60.0

LATENCY_JITTER_S = 0.1
"""The usual spread of the time from sending a request to its being counted."""

MERGE_S = 0.005
"""Requests sent within this time share an entry: memory is bounded by time, not by the rate."""

ORDER_CERTAIN_S = LATENCY_JITTER_S + MERGE_S
"""Two requests sent this far apart are counted in that order."""

LATE_ARRIVAL_S = 0.5
"""On a busy machine or a poor line, one request in many arrives this much later than usual."""

OVERTAKEN_S = 3.0
"""What was sent so shortly before, and is not answered, may be counted later: requests overtake each other on the way,
and a busy server counts one on an open connection before all those that wait on new ones."""

_KEPT_S = 2 * WINDOW_S + LATE_ARRIVAL_S
"""A response that starts a minute after its request was sent still finds what the window held then."""

KEPT_ENTRIES = 1024
"""Older times of sending are dropped from this number on, and older corrections: a bound on memory."""


class SendHistory:
    """Prefix sums of the costs sent, by time. Costs are in our units; ``limit`` is a minute's."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.rate = limit / WINDOW_S
        """Units per second."""
        self.total = 0.0
        self._times = [-inf]
        self._sums = [0.0]
        """The total sent up to and including this entry."""
        self._levels = [limit]
        """The level of the bucket after this entry."""
        self._answered_times = [-inf]
        self._answered_sums = [0.0]
        """The total answered up to and including this entry."""
        self._lowered: deque[tuple[float, float, float]] = deque(maxlen=KEPT_ENTRIES)
        """Costs that turned out lower: when this was known, when the request was sent, and by how much."""

    def add(self, at: float, amount: float) -> None:
        """Times must not decrease; a time slightly earlier than the latest one counts as the latest."""
        self.total += amount
        if at - self._times[-1] < MERGE_S:
            self._sums[-1] = self.total
            self._levels[-1] -= amount
            return
        self._levels.append(self._refilled(-1, at) - amount)
        self._times.append(at)
        self._sums.append(self.total)
        if len(self._times) > KEPT_ENTRIES and self._times[KEPT_ENTRIES // 2] < at - _KEPT_S:
            self._trim(at - _KEPT_S)

    def add_answered(self, at: float, amount: float) -> None:
        """A request of this cost has been answered, or never will be."""
        total = self._answered_sums[-1] + amount
        if at - self._answered_times[-1] < MERGE_S:
            self._answered_sums[-1] = total
            return
        self._answered_times.append(at)
        self._answered_sums.append(total)
        if len(self._answered_times) > KEPT_ENTRIES and self._answered_times[KEPT_ENTRIES // 2] < at - _KEPT_S:
            old = bisect_right(self._answered_times, at - _KEPT_S) - 1
            del self._answered_times[:old], self._answered_sums[:old]

    def overtaken(self, at: float) -> float:
        """What was sent shortly before and not answered by then: the server may have counted it later."""
        answered = self._answered_sums[max(0, bisect_right(self._answered_times, at) - 1)]
        by = self.total_sent_by(at)
        return max(0.0, min(by - answered, by - self.total_sent_by(at - OVERTAKEN_S)))

    def correct(self, sent_at: float, amount: float, at: float) -> None:
        """Raise the cost of what was sent then by ``amount`` (negative: lower it); the server knows it at ``at``."""
        entry = bisect_right(self._times, sent_at) - 1
        if entry > 0:
            if amount < 0:
                self._lowered.append((at, sent_at, -amount))
            self.total += amount
            self._sums[entry:] = [total + amount for total in self._sums[entry:]]
            self._levels[-1] = min(self.limit, self._levels[-1] - amount)

    def total_sent_by(self, at: float) -> float:
        return self._sums[max(0, bisect_right(self._times, at) - 1)]

    def in_window(self, now: float) -> float:
        """The most that a window on the server may hold of our requests now."""
        return self.total - self.total_sent_by(now - WINDOW_S - ORDER_CERTAIN_S)

    def window_frees_at(self, amount: float, now: float) -> float:
        """The time from which a window certainly holds ``amount`` less than now; inf: it does not hold that much."""
        if amount <= 0:
            return now
        entry = bisect_left(self._sums, self.total - self.in_window(now) + amount - 1e-6)
        if entry == len(self._times):
            return inf
        return self._times[entry] + WINDOW_S + ORDER_CERTAIN_S

    def bounds(self, at: float) -> tuple[float, float, float]:
        """Three totals, for a request sent at ``at``: what was certainly counted before it, what was sent by then, and
        what may have been counted before it."""
        times, sums = self._times, self._sums
        by = bisect_right(times, at)
        before = bisect_right(times, at - ORDER_CERTAIN_S, 0, by)
        after = bisect_right(times, at + ORDER_CERTAIN_S, by)
        return sums[before - 1 if before else 0], sums[by - 1 if by else 0], sums[after - 1 if after else 0]

    def lowered_after(self, at: float) -> float:
        """By how much the costs of what was sent by then have been lowered since: a header of that time did not know
        it."""
        total = 0.0
        for known_at, sent_at, amount in reversed(self._lowered):
            if known_at <= at - ORDER_CERTAIN_S:
                break
            if sent_at <= at + ORDER_CERTAIN_S:
                total += amount
        return total

    def lowered_between(self, since: float, until: float) -> float:
        """By how much costs were lowered in this time."""
        return sum(amount for known_at, _, amount in self._lowered if since <= known_at <= until)

    def level(self, at: float) -> float:
        """The level of the bucket at this time, after all that was sent by then."""
        return self._refilled(max(0, bisect_right(self._times, at) - 1), at)

    def level_reached_at(self, level: float) -> float:
        """The time, possibly past, from which the bucket holds ``level`` if nothing more is sent and it never
        overflows."""
        return self._times[-1] + max(0.0, level - self._levels[-1]) / self.rate

    def set_limit(self, limit: float, since: float = -inf) -> None:
        """Recompute the bucket: it was full until ``since``, and has been refilled by the new limit from then on."""
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
