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
from typing import TYPE_CHECKING, NamedTuple

from processor.ratelimit.estimator.external_usage import Interval
from processor.ratelimit.estimator.send_history import LATE_ARRIVAL_S, MERGE_S, ORDER_CERTAIN_S, WINDOW_S, SendHistory

if TYPE_CHECKING:
    from processor.ratelimit.estimator.window_or_bucket import CounterType

BURST_WINDOW_S = 0.05
"""Requests sent within this time are one burst."""

ISOLATION_S = LATE_ARRIVAL_S + 2 * MERGE_S
"""A request sent this long before or after a burst is counted apart from it."""

KEPT_BURSTS = 64
"""The newest bursts are kept, of a minute at most: a bound on memory."""

MIN_BURST_REQUESTS = 3
RATIO_BURST_REQUESTS = 3 * MIN_BURST_REQUESTS
"""Requests of unlike sizes of which none is too large a part for the token ratio to be learned."""
MAX_RATIO = 4.0
"""The ratio stays between this and its inverse."""


RESET_STEP_S = 1.0
"""Some servers round the reset up to whole seconds, and most to milliseconds."""


class Header(NamedTuple):
    """What a response shows to a request that was not refused. The cost is ours, the rest is the server's."""

    sent_at: float
    cost: float
    remaining: float
    reset_s: float | None
    """Until all of it is available again."""
    limit: float
    """A minute's."""

    @property
    def rate(self) -> float:
        return self.limit / WINDOW_S

    @property
    def missing_by_reset(self) -> Interval | None:
        """What is missing as the reset shows it, where that is so much less than what does not remain that the counter
        can only be a bucket of one second; None: it is not."""
        if self.reset_s is None or self.reset_s * self.rate >= self.limit - self.remaining - self.rate:
            return None
        step_s = RESET_STEP_S if self.reset_s.is_integer() else RESET_STEP_S / 1000
        return Interval((self.reset_s - step_s) * self.rate, self.reset_s * self.rate)

    def agrees_with_second_bucket(self, by_reset: Interval) -> bool:
        """Whether as much is missing from a bucket of one second."""
        return by_reset.low <= self.rate - self.remaining <= by_reset.high + 1


class LoneCharge(NamedTuple):
    """What a request was charged that was sent alone, if the server counts by a window, and if by a bucket."""

    cost: float
    window: Interval
    bucket: Interval


class LoneCharges:
    """What is used more after a request that was sent alone than before it."""

    def __init__(self) -> None:
        self._charges: deque[LoneCharge] = deque(maxlen=RATIO_BURST_REQUESTS)
        self._bounds: dict[CounterType | None, Interval | None] = {}
        """Of the ratio, by these charges. Every header asks for them, and few change them."""
        self.last: tuple[float, float, Interval] | None = None
        """Of the newest: when it was sent, all that was sent by then, and what was used after it."""
        self._has_whole_history = True
        self.is_second = False
        """Whether the headers are those of a bucket of one second."""
        self.full_at: float | None = None
        """When a bucket is full again after the newest, where it may have been full before it."""

    def observe(self, header: Header, history: SendHistory, ratio: float) -> None:
        before, by, after = history.bounds(header.sent_at)
        # A limit that was announced late has been used by requests that its history does not hold.
        self._has_whole_history &= after - before >= header.cost - 1e-6
        is_alone = self._has_whole_history and after - before <= header.cost + 1e-6
        if not is_alone or (self.last is not None and header.sent_at <= self.last[0]):
            return
        used, was_second, last = self._used(header), self.is_second, self.last
        self.last = header.sent_at, by, used
        self.full_at = None
        if self.is_second != was_second:
            self._charges.clear()
            self._bounds.clear()
            last = None
        if before - history.total_sent_by(header.sent_at - WINDOW_S) <= 1e-6:
            charge = LoneCharge(header.cost, used, used)
            self.full_at = header.sent_at + used.high / header.rate
        elif last is not None and abs(last[1] - before) <= 1e-6:
            window = _charged_by_window(header.sent_at, used, last[0], last[2], history, ratio)
            bucket = _charged_by_bucket(header.rate, used, last[2], header.sent_at - last[0])
            if bucket.high == used.high:
                self.full_at = header.sent_at + used.high / header.rate
            charge = LoneCharge(header.cost, window, bucket)
        else:
            return
        # What others have used makes no sense as a charge.
        if all(header.cost / MAX_RATIO <= one.high <= header.cost * MAX_RATIO for one in charge[1:]):
            self._charges.append(charge)
            self._bounds.clear()

    def bounds(self, counter_type: CounterType | None) -> Interval | None:
        """Of the ratio; None: nothing is known."""
        if counter_type not in self._bounds:
            self._bounds[counter_type] = self._bounds_by_charges(counter_type)
        return self._bounds[counter_type]

    def _bounds_by_charges(self, counter_type: CounterType | None) -> Interval | None:
        if not self._charges:
            return None
        if counter_type is None:
            # The wrong type explains the charges worse. A single one is explained by both: the larger is the safe one.
            (_, window, bucket), is_single = self._charges[0], len(self._charges) == 1
            is_window = window.high > bucket.high if is_single else self._spread("window") <= self._spread("bucket")
            counter_type = "window" if is_window else "bucket"
        charges = [one.window if counter_type == "window" else one.bucket for one in self._charges]
        cost = sum(one.cost for one in self._charges)
        return Interval(sum(one.low for one in charges) / cost, sum(one.high for one in charges) / cost)

    def _spread(self, counter_type: CounterType) -> float:
        """How far apart the ratios are at least that explain the charges, each rounded to a whole token."""
        charges = [(one.cost, one.window if counter_type == "window" else one.bucket) for one in self._charges]
        least_high = min((charge.high + 1) / cost for cost, charge in charges)
        return max(0.0, max((charge.low - 1) / cost for cost, charge in charges) - least_high)

    def _used(self, header: Header) -> Interval:
        """What is missing from the full counter, in the server's units.

        A bucket of one second never shows the limit, and nothing where it is in debt: there the reset tells.
        """
        missing, by_reset = header.limit - header.remaining, header.missing_by_reset
        self.is_second = by_reset is not None and (not header.remaining or header.agrees_with_second_bucket(by_reset))
        if by_reset is not None and self.is_second:
            return by_reset if not header.remaining else Interval(*2 * (header.rate - header.remaining,))
        return Interval(missing, missing)


def _charged_by_window(
    sent_at: float, used: Interval, last_at: float, last_used: Interval, history: SendHistory, ratio: float
) -> Interval:
    certainly_gone, _, possibly_gone = history.bounds(sent_at - WINDOW_S)
    certainly_gone_before, _, possibly_gone_before = history.bounds(last_at - WINDOW_S)
    return Interval(
        used.low - last_used.high + ratio * (certainly_gone - possibly_gone_before),
        used.high - last_used.low + ratio * (possibly_gone - certainly_gone_before),
    )


def _charged_by_bucket(rate: float, used: Interval, last_used: Interval, passed_s: float) -> Interval:
    most_before = max(0.0, last_used.high - rate * (passed_s - LATE_ARRIVAL_S))
    least_before = max(0.0, last_used.low - rate * (passed_s + LATE_ARRIVAL_S))
    return Interval(used.low - most_before, used.high - least_before)


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
