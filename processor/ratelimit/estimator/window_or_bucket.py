"""Tells from the headers, before anything is refused, whether a server counts by a window or by a bucket. Pure.

Between two headers the two models predict different changes, as soon as something has come back to one of them and
not to the other. Two requests in even pacing suffice where the server is a bucket: the second sees it full again.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from math import inf
from typing import Literal

from processor.core.fast_dataclass import dataclass
from processor.ratelimit.estimator.external_usage import SHARED_KEY_SHARE, Interval
from processor.ratelimit.estimator.reported_header import RESET_STEP_S, Header
from processor.ratelimit.estimator.send_history import LATE_ARRIVAL_S, OVERTAKEN_S, WINDOW_S, SendHistory
from processor.ratelimit.estimator.token_ratio import BURST_WINDOW_S

CounterType = Literal["window", "bucket"]

KEPT_OBSERVATIONS = 8
"""Earlier headers, of different bursts, with which each new one is compared."""

RECLASSIFY_CHANGE = 0.1
"""A correction of the units by more than this share makes the type of the counter unknown again."""

CERTAINLY_BETWEEN_S = OVERTAKEN_S + LATE_ARRIVAL_S
"""What was sent so long after one request and before another was counted between them, but for what was sent last."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One header, and what each model would have shown in its place if no other client used the key."""

    sent_at: float
    """When the header's request was sent."""
    remaining: float
    total_sent: float
    """All that was sent by then."""
    may_be_counted_before: float
    """What was sent so much later that it was counted before this request only if this one arrived late."""
    may_be_counted_after: float
    """What was sent so much earlier that it was counted after this request only if it arrived late itself."""
    window_prediction: Interval
    bucket_prediction: Interval


class CounterClassifier:
    def __init__(self, tolerance: float) -> None:
        """``tolerance``: the share by which the server's costs may differ from ours."""
        self.counter_type: CounterType | None = None
        self._told_by_reset: CounterType | None = None
        self._tolerance = tolerance
        self._observations: deque[tuple[Observation, float]] = deque(maxlen=KEPT_OBSERVATIONS)
        """Each with the uncertainty at that time."""
        self._apart: deque[tuple[Observation, float]] = deque(maxlen=2)
        """Further ones, so far apart that most of what was sent between two of them was certainly counted between them:
        where many requests a second take long to be answered, those of one moment explain everything."""
        self._uncertainty = 0.0

    def add_uncertainty(self, cost: float) -> None:
        """It is unknown whether the server has counted this cost: the request was refused or got lost."""
        self._uncertainty += cost

    def on_rescaled(self, factor: float) -> None:
        """The limit turned out to be so many times as large, in our units."""
        if abs(factor - 1) > RECLASSIFY_CHANGE:
            self.counter_type = None

    def reset(self) -> None:
        """Forget the observations: they cannot be compared with later ones. The type stays."""
        self._observations.clear()
        self._apart.clear()

    def observe(self, new: Observation) -> None:
        if not self._observations or new.sent_at > self._observations[-1][0].sent_at + BURST_WINDOW_S:
            found = self._classify(new)
            self.counter_type = self.counter_type if found is None else self._told_by_reset or found
            self._observations.append((new, self._uncertainty))
            if not self._apart or new.sent_at > self._apart[-1][0].sent_at + CERTAINLY_BETWEEN_S:
                self._apart.append((new, self._uncertainty))

    def observe_reset(self, header: Header, *, is_second_bucket: bool) -> None:
        """Conclude the type from when all is available again, where no change has shown it. What it tells is not
        overruled by a change: late requests change more than they explain.

        A bucket gets back what is missing at its rate, and a window all of it a minute after the newest request.
        """
        if is_second_bucket:
            self.counter_type = "bucket"
        reset_s = header.reset_s
        if reset_s is None or reset_s > WINDOW_S + RESET_STEP_S:
            self._told_by_reset = None
            return
        longer_s = reset_s - (header.limit - header.remaining) / header.rate
        if longer_s > 2 * RESET_STEP_S and reset_s >= WINDOW_S - 2 * RESET_STEP_S:
            self._told_by_reset = "window"
        elif abs(longer_s) > RESET_STEP_S:
            self._told_by_reset = None
        elif 2 * RESET_STEP_S < reset_s < WINDOW_S - 2 * RESET_STEP_S:
            self._told_by_reset = "bucket"
        self.counter_type = self.counter_type or self._told_by_reset

    def observe_second_bucket(self, header: Header, history: SendHistory) -> None:
        """Conclude a bucket of one second from what remains and from the reset, which agree by chance in few headers.

        It shows in the first ones, where replies take so long that no change would show it for many seconds.
        """
        by_reset = header.missing_by_reset
        if by_reset is None or not header.agrees_with_second_bucket(by_reset):
            return
        is_precise = by_reset.high + 1 - by_reset.low <= SHARED_KEY_SHARE * header.rate
        if is_precise and history.in_window(header.sent_at) < header.limit - header.remaining - header.rate:
            self.counter_type = "bucket"

    def rule_out_window(self, excess: float, in_window: float) -> None:
        """Conclude a bucket where more remains, by ``excess``, than a window that holds ``in_window`` could leave."""
        if excess > 0.5 + self._tolerance * in_window + self._uncertainty:
            self.counter_type = "bucket"

    def _classify(self, new: Observation) -> CounterType | None:
        """The type that explains the change since an earlier observation, where the other type cannot."""
        for old, uncertainty in chain(self._observations, self._apart):
            rise = new.remaining - old.remaining
            tolerance = 1 + self._tolerance * (new.total_sent - old.total_sent) + self._uncertainty - uncertainty
            window, bucket = _distances(new, old, rise, rise)
            # To rule out a type, the change must not fit even if a request was late.
            least, most = (
                rise - old.may_be_counted_before - new.may_be_counted_after,
                rise + new.may_be_counted_before + old.may_be_counted_after,
            )
            window_late, bucket_late = _distances(new, old, least, most)
            # A bucket below 0 also shows 0, so a fall to 0 proves nothing.
            if (new.remaining or not old.remaining) and bucket <= tolerance / 2 and window_late > bucket + tolerance:
                return "bucket"
            if window <= tolerance / 2 and bucket_late > window + tolerance:
                return "window"
        return None


def _distances(new: Observation, old: Observation, low: float, high: float) -> tuple[float, float]:
    """How far a change between ``low`` and ``high`` lies outside of what a window predicts, and a bucket."""
    window = _distance(low, high, new.window_prediction, old.window_prediction)
    # A bucket in debt shows 0.
    bucket_low, bucket_high = low if new.remaining else -inf, high if old.remaining else inf
    return window, _distance(bucket_low, bucket_high, new.bucket_prediction, old.bucket_prediction)


def _distance(low: float, high: float, new: Interval, old: Interval) -> float:
    return max(0.0, new.low - old.high - high, low - (new.high - old.low))
