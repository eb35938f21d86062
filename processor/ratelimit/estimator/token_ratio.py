"""Learns what one of our tokens costs at the server, from how far *remaining* falls within a burst. Pure.

Requests that are sent together are counted together, and next to nothing comes back in between, whatever the type of
the counter. So the fall from the first header to the last is what the server charged for all but the first request.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from math import inf
from operator import attrgetter

from processor.ratelimit.estimator.send_history import LATE_ARRIVAL_S, MERGE_S, ORDER_CERTAIN_S, WINDOW_S, SendHistory

BURST_WINDOW_S = 0.05
"""Requests sent within this time are one burst."""

ISOLATION_S = LATE_ARRIVAL_S + 2 * MERGE_S
"""A request sent this long before or after a burst is counted apart from it."""

KEPT_BURSTS = 64
"""The newest bursts are kept, of a minute at most: a bound on memory."""

MIN_BURST_REQUESTS = 3
MAX_RATIO = 4.0
"""The ratio stays between this and its inverse."""


@dataclass(slots=True)
class Burst:
    """Requests sent together, and what their headers showed. Costs are ours, *remaining* is the server's."""

    start: float
    sent: int = 0
    answered: int = 0
    cost: float = 0.0
    largest_cost: float = 0.0
    first_cost: float = 0.0
    """Of the request that was counted first: the one whose header showed the most remaining."""
    first_remaining: float = -inf
    last_remaining: float = inf


_START = attrgetter("start")


class TokenRatio:
    def __init__(self) -> None:
        self.value = 1.0
        """What the server charges for one unit of ours."""
        self._bursts: deque[Burst] = deque(maxlen=KEPT_BURSTS)
        """Of the last minute."""

    def on_sent(self, cost: float, at: float) -> None:
        if not self._bursts or at > self._bursts[-1].start + BURST_WINDOW_S:
            self._bursts.append(Burst(at))
            while self._bursts[0].start < at - WINDOW_S:
                self._bursts.popleft()
        burst = self._bursts[-1]
        burst.sent += 1
        burst.cost += cost
        burst.largest_cost = max(burst.largest_cost, cost)

    def on_refused(self, sent_at: float, cost: float) -> None:
        """The request was not charged."""
        burst = self._burst(sent_at)
        if burst is not None:
            burst.sent -= 1
            burst.cost -= cost

    def observe(self, sent_at: float, cost: float, remaining: float, history: SendHistory) -> bool:
        """A request has been answered. Returns whether the ratio has changed."""
        burst = self._burst(sent_at)
        if burst is None:
            return False
        burst.answered += 1
        if remaining > burst.first_remaining:
            burst.first_remaining, burst.first_cost = remaining, cost
        burst.last_remaining = min(burst.last_remaining, remaining)
        is_complete = burst.answered == burst.sent and burst.last_remaining > 0
        if not is_complete or burst.largest_cost > burst.cost / MIN_BURST_REQUESTS:
            return False
        return self._learn(burst, history)

    def _burst(self, sent_at: float) -> Burst | None:
        index = bisect_right(self._bursts, sent_at, key=_START) - 1
        return self._bursts[index] if index >= 0 else None

    def _learn(self, burst: Burst, history: SendHistory) -> bool:
        charged = self._charged(burst, history)
        if charged is None:
            return False
        cost = burst.cost - burst.first_cost
        target = min(MAX_RATIO, max(1 / MAX_RATIO, self.value * charged / cost))
        self.value += (target - self.value) * burst.sent / (burst.sent + 1)
        return True

    def _charged(self, burst: Burst, history: SendHistory) -> float | None:
        """What the server charged for all but the first request, in our units by today's ratio; None: unknown."""
        fall, cost = (burst.first_remaining - burst.last_remaining) / self.value, burst.cost - burst.first_cost
        overlapping = _overlapping_cost(burst, history)
        if fall - overlapping > cost:
            return fall + (_refilled(burst, history, ORDER_CERTAIN_S) - overlapping) / 2
        # A lower ratio is learned only as far as it is certain: a ratio that is too low sends too much.
        charged = fall + _refilled(burst, history, LATE_ARRIVAL_S)
        return charged if charged < cost else None


def _overlapping_cost(burst: Burst, history: SendHistory) -> float:
    """What was sent so shortly before or after the burst that it may have been counted within it."""
    until, since = burst.start + BURST_WINDOW_S + LATE_ARRIVAL_S, burst.start - LATE_ARRIVAL_S
    return max(0.0, history.total_sent_by(until) - history.total_sent_by(since) - burst.cost)


def _refilled(burst: Burst, history: SendHistory, late_s: float) -> float:
    """What may have come back within the burst if its last request was late: by a refill, by leaving a window, or
    because replies have used less than was reserved for them."""
    first, last = burst.start - WINDOW_S - late_s, burst.start + BURST_WINDOW_S - WINDOW_S + late_s
    left_window = history.total_sent_by(last) - history.total_sent_by(first)
    lowered = history.lowered_between(burst.start - late_s, burst.start + BURST_WINDOW_S + late_s)
    return max(history.rate * (late_s + BURST_WINDOW_S), left_window) + lowered
