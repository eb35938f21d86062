"""Learns what one of our tokens costs at the server, from what its headers show to be used. Pure.

The ratio is the one in force as long as the headers allow it, and else the nearest that they allow: each of two kinds
of evidence bounds it from both sides.

- Requests that are sent together are counted together, and next to nothing comes back in between, whatever the type
  of the counter. So the fall from the first header to the last is what the server charged for all but the first.
- A request that is sent alone was charged what is used more after it than before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING

from processor.ratelimit.estimator.lone_charges import MAX_RATIO, MIN_BURST_REQUESTS, LoneCharges
from processor.ratelimit.estimator.reported_header import Header
from processor.ratelimit.estimator.send_history import LATE_ARRIVAL_S, MERGE_S, ORDER_CERTAIN_S, WINDOW_S, SendHistory

if TYPE_CHECKING:
    from processor.ratelimit.estimator.window_or_bucket import CounterType

BURST_WINDOW_S = 0.05
"""Requests sent within this time are one burst."""

ISOLATION_S = LATE_ARRIVAL_S + 2 * MERGE_S
"""A request sent this long before or after a burst is counted apart from it."""

KEPT_BURSTS = 64
"""The newest bursts are kept, of a minute at most: a bound on memory."""


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

    def is_complete_with(self, header: Header) -> bool:
        """Add the header of one of its requests: whether it is the last, and the ratio can be learned from them."""
        self.answered += 1
        remaining = header.remaining
        if remaining > self.first_remaining:
            self.first_remaining, self.first_cost = remaining, header.cost
        if remaining < self.last_remaining:
            self.last_remaining = remaining
        is_complete = self.answered == self.sent and self.last_remaining > 0
        return is_complete and self.largest_cost <= self.cost / MIN_BURST_REQUESTS


_START = attrgetter("start")


class TokenRatio:
    def __init__(self) -> None:
        self.value = 1.0
        """What the server charges for one unit of ours."""
        self._bursts: deque[Burst] = deque(maxlen=KEPT_BURSTS)
        """Of the last minute."""
        self._lone = LoneCharges()
        self._has_seen_burst = False
        """Whether a burst has bounded the ratio. It says more: others use little within it."""

    def on_sent(self, cost: float, at: float) -> None:
        bursts = self._bursts
        if not bursts or at > bursts[-1].start + BURST_WINDOW_S:
            bursts.append(Burst(at))
            while bursts[0].start < at - WINDOW_S:
                bursts.popleft()
        burst = bursts[-1]
        burst.sent += 1
        burst.cost += cost
        if cost > burst.largest_cost:
            burst.largest_cost = cost

    def on_refused(self, sent_at: float, cost: float) -> None:
        """The request was not charged."""
        burst = self._burst(sent_at)
        if burst is not None:
            burst.sent -= 1
            burst.cost -= cost

    def observe(self, header: Header, history: SendHistory, counter_type: CounterType | None) -> bool:
        """A request has been answered. Returns whether the ratio has changed."""
        before = self.value
        burst = self._burst(header.sent_at)
        if burst is not None and burst.is_complete_with(header):
            self._learn(burst, history, counter_type)
        if burst is None or burst.cost <= header.cost + 1e-6:  # else it was sent together with others
            self._lone.observe(header, history, self.value)
        if not self._has_seen_burst:
            bounds = self._lone.bounds(counter_type)
            if bounds is not None and not bounds.low <= self.value <= bounds.high:
                self.value = bounds.high if self.value > bounds.high else (bounds.low + bounds.high) / 2
        if self.value == before:
            return False
        self.value = min(MAX_RATIO, max(1 / MAX_RATIO, self.value))
        return self.value != before

    @property
    def is_second_bucket(self) -> bool:
        """Whether the newest request that was sent alone has shown a bucket of one second."""
        return self._lone.is_second

    def full_at(self, sent_at: float, counter_type: CounterType | None) -> float | None:
        """When a bucket is full again after the request that was sent then; None: it has not shown that."""
        lone = self._lone
        if lone.full_at is None or lone.last is None or lone.last[0] != sent_at:
            return None
        return lone.full_at if lone.is_second or counter_type == "bucket" else None

    def _burst(self, sent_at: float) -> Burst | None:
        index = bisect_right(self._bursts, sent_at, key=_START) - 1
        return self._bursts[index] if index >= 0 else None

    def _learn(self, burst: Burst, history: SendHistory, counter_type: CounterType | None) -> None:
        """Where the burst cost more than the ratio says, believe the middle of what it may have cost; where less, only
        what is certain: a ratio that is too low sends too much."""
        fall, cost = (burst.first_remaining - burst.last_remaining) / self.value, burst.cost - burst.first_cost
        overlapping = _overlapping_cost(burst, history)
        most = fall + _refilled(burst, history, LATE_ARRIVAL_S, counter_type)
        refilled = _refilled(burst, history, ORDER_CERTAIN_S, counter_type)
        self._has_seen_burst |= most - fall + overlapping <= cost / MIN_BURST_REQUESTS
        if fall - overlapping > cost and refilled <= cost / MIN_BURST_REQUESTS:
            charged = fall + (refilled - overlapping) / 2
        elif most < cost:
            charged = most
        else:
            return
        lately = sum(one.cost for one in self._bursts if one.sent >= MIN_BURST_REQUESTS)
        self.value *= 1 + (charged / cost - 1) * burst.cost / lately


def _overlapping_cost(burst: Burst, history: SendHistory) -> float:
    """What was sent so shortly before or after the burst that it may have been counted within it."""
    until, since = burst.start + BURST_WINDOW_S + LATE_ARRIVAL_S, burst.start - LATE_ARRIVAL_S
    return max(0.0, history.total_sent_by(until) - history.total_sent_by(since) - burst.cost)


def _refilled(burst: Burst, history: SendHistory, late_s: float, counter_type: CounterType | None) -> float:
    """What may have come back within the burst if its last request was late: by a refill, by leaving a window, or
    because replies have used less than was reserved for them."""
    first, last = burst.start - WINDOW_S - late_s, burst.start + BURST_WINDOW_S - WINDOW_S + late_s
    left_window = history.total_sent_by(last) - history.total_sent_by(first)
    lowered = history.lowered_between(burst.start - late_s, burst.start + BURST_WINDOW_S + late_s)
    refilled = 0.0 if counter_type == "window" else history.rate * (late_s + BURST_WINDOW_S)
    return max(refilled, left_window) + lowered
