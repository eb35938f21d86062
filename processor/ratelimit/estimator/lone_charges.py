"""Bounds the token ratio by requests that were sent alone. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from processor.ratelimit.estimator.external_usage import Interval
from processor.ratelimit.estimator.reported_header import Header
from processor.ratelimit.estimator.send_history import LATE_ARRIVAL_S, WINDOW_S, SendHistory

if TYPE_CHECKING:
    from processor.ratelimit.estimator.window_or_bucket import CounterType

MIN_BURST_REQUESTS = 3
RATIO_BURST_REQUESTS = 3 * MIN_BURST_REQUESTS
"""Requests of unlike sizes of which none is too large a part for the token ratio to be learned."""
MAX_RATIO = 4.0
"""The ratio stays between this and its inverse."""


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
