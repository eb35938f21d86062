"""The two models of a server's counter: when does a sliding window have room, and when a refilling bucket? Pure.

Both models look at the same facts and differ in what they predict. `ServerModel` decides which of them to believe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf

from processor.ratelimit.estimator.decaying_value import MEAN_OVER_REQUESTS, DecayingValue
from processor.ratelimit.estimator.external_usage import ExternalUsage, Interval
from processor.ratelimit.estimator.lone_charges import MIN_BURST_REQUESTS
from processor.ratelimit.estimator.send_history import (
    LATE_ARRIVAL_S,
    MERGE_S,
    ORDER_CERTAIN_S,
    WINDOW_S,
    SendHistory,
)
from processor.ratelimit.estimator.window_or_bucket import CounterClassifier, Observation

SMALL_BUCKET_S = 5.0
"""A bucket of less than this refill time is small: bursts gain nothing there, and even pacing loses nothing."""

REFUSAL_HALF_LIFE_S = 600.0
"""What a refusal has taught fades by half in this time."""


class CounterFacts:
    """What is known of one counter: what was sent and is being sent, and what the newest header said."""

    def __init__(self, limit: float, *, learns_ratio: bool) -> None:
        """``learns_ratio``: the server's units may differ from ours, and the first requests are to show by how much."""
        self.history = SendHistory(limit)
        self._learns_ratio = learns_ratio
        self.pending = 0.0
        """Granted and not yet sent: it may reach the server at any time."""
        self.reserve = DecayingValue(REFUSAL_HALF_LIFE_S)
        """Room that is left unused for a while after a refusal."""
        self.rounding = 0.0
        """What the server's rounding of costs may add up to within a minute."""
        self.last_sent_at = -inf
        """When the newest request was sent, or granted if it has not been sent yet."""
        self.mean_cost = 1.0
        self._costs_seen = 0
        self.alone_until = -inf
        """While the newest request is to be counted alone, so that its header shows what it was charged."""
        self.headers_at = -inf
        """When the newest response with a header arrived."""
        self.newest_sent_at = -inf
        """When the newest request was sent whose response had a header."""
        self.reset_at = inf
        """When everything is back, according to the newest header."""

    @property
    def jitter_margin(self) -> float:
        """What a bucket may gain while one request is on its way and another is not."""
        return self.history.rate * ORDER_CERTAIN_S

    @property
    def external_margin(self) -> float:
        """How much more than a header shows the others are assumed to use."""
        return 1 + 2 * ORDER_CERTAIN_S * self.history.rate

    def on_grant(self, cost: float, at: float) -> None:
        self.pending += cost
        self.last_sent_at = at
        if self._costs_seen < MEAN_OVER_REQUESTS:
            self._costs_seen += 1
        self.mean_cost += (cost - self.mean_cost) / self._costs_seen
        if self._costs_seen < MIN_BURST_REQUESTS and self._learns_ratio:
            share_s = self.mean_cost / self.history.rate
            # Larger ones are paced further apart, and of smaller ones a burst shows more.
            if MERGE_S <= share_s <= LATE_ARRIVAL_S:
                self.alone_until = at + share_s + 2 * ORDER_CERTAIN_S

    def on_cancelled(self, cost: float) -> None:
        """What was granted is not sent."""
        self.pending -= cost

    def reserve_for(self, cost: float, now: float, more: float = 0.0) -> float:
        """The reserve and ``more``, but no more than leaves room for this cost: it could otherwise never be sent."""
        return min(self.reserve.value(now) + more, max(0.0, self.history.limit - cost))

    def external_drained_at(self, since: float, amount: float, slack_s: float) -> float:
        """When ``amount`` of external usage has drained from the counter, which began at ``since``.

        ``slack_s`` is added to the server's reset time: the header has not counted what was sent beside its request.
        """
        return min(since + amount / self.history.rate, max(self.reset_at, since + slack_s))


class CounterModel(ABC):
    """One way to count. ``external`` is what others must be using, if the server counts in this way."""

    def __init__(self, facts: CounterFacts) -> None:
        self._facts = facts
        self._history = facts.history
        self.external = ExternalUsage()

    @abstractmethod
    def predict(self, sent_at: float, cost: float, bounds: tuple[float, float, float]) -> Interval:
        """What the header of a request would show if no other client used the key.

        ``bounds``: of the history at ``sent_at``.
        """

    @abstractmethod
    def fit(self, observation: Observation) -> None:
        """Correct the external usage by what a header shows."""

    def external_now(self, now: float) -> float:
        """What others are expected to use now."""
        return self.external.forecast(self._facts.newest_sent_at, now)

    @abstractmethod
    def available(self, now: float) -> float:
        """What certainly fits now."""


class WindowModel(CounterModel):
    """No 60 seconds may hold more than the limit."""

    def predict(self, sent_at: float, cost: float, bounds: tuple[float, float, float]) -> Interval:
        certainly_gone, _, possibly_gone = self._history.bounds(sent_at - WINDOW_S)
        before, _, after = bounds
        limit = self._history.limit
        return Interval(limit - (after - certainly_gone), limit - (before + cost - possibly_gone))

    def fit(self, observation: Observation) -> None:
        self.external.fit(observation.window_prediction, observation.remaining, self._facts.external_margin)

    def external_now(self, now: float) -> float:
        """A negative estimate counts as 0: the surplus will be gone when ours has left the window."""
        return max(0.0, self.external.forecast(self._facts.newest_sent_at, now))

    def earliest(self, cost: float, external: float, now: float) -> float:
        """When the window has room for this cost beside ``external``; inf: not before something pending is sent."""
        facts, history = self._facts, self._history
        needed = facts.pending + cost + external + facts.reserve_for(cost, now, facts.rounding)
        at = history.window_frees_at(history.in_window(now) + needed - history.limit, now)
        if at < inf or facts.pending or external <= 0:
            return at
        # There is no room even after all of ours has left: external usage is assumed to drain evenly.
        ours_left_at = history.window_frees_at(history.in_window(now), now)
        excess = max(history.rate, needed - history.limit)
        return max(ours_left_at, facts.external_drained_at(facts.headers_at, excess, ORDER_CERTAIN_S))

    def available(self, now: float) -> float:
        facts = self._facts
        used = self._history.in_window(now) + self.external_now(now) + facts.pending + facts.reserve.value(now)
        used += facts.rounding
        return self._history.limit - used


class BucketModel(CounterModel):
    """A bucket of the limit is refilled evenly: limit / 60 a second."""

    def __init__(self, facts: CounterFacts, classifier: CounterClassifier) -> None:
        super().__init__(facts)
        self._classifier = classifier
        self.newest_remaining = inf
        """What the header showed that came last, also of a request that was sent earlier or with others."""

    @property
    def is_certain(self) -> bool:
        """Whether the server is known to count by a bucket."""
        return self._classifier.counter_type == "bucket"

    @property
    def shown_missing(self) -> float:
        """What the header that came last shows to be missing; inf: the server is not known to count by a bucket."""
        return self._history.limit - self.newest_remaining if self.is_certain else inf

    @property
    def is_small(self) -> bool:
        """Whether the server is known to have a bucket of only a few seconds' refill."""
        return self._classifier.counter_type == "bucket" and self.capacity < SMALL_BUCKET_S * self._history.rate

    @property
    def capacity(self) -> float:
        """What the bucket holds at most beside external usage: what a small bucket never shows looks as if used."""
        return self._history.limit - self.external.used

    @property
    def margin(self) -> float:
        """How much less the bucket may hold than the history shows, because requests arrive later than sent.

        In a large bucket, room for very late ones costs only that much extra time, at the end of the run.
        """
        is_large = self.is_certain and not self.is_small
        return self._history.rate * (LATE_ARRIVAL_S if is_large else ORDER_CERTAIN_S)

    def predict(self, sent_at: float, cost: float, bounds: tuple[float, float, float]) -> Interval:
        before, by, after = bounds
        facts = self._facts
        level, margin = self._history.level(sent_at), facts.jitter_margin
        return Interval(level - (after - by) - margin, min(self._history.limit, level + (by - before - cost) + margin))

    def fit(self, observation: Observation) -> None:
        predicted, remaining, sent_at = observation.bucket_prediction, observation.remaining, observation.sent_at
        # A bucket in debt shows 0.
        high = predicted.high if remaining else inf
        self.external.fit(Interval(predicted.low, high), remaining, self._facts.external_margin)
        if self.external.used < 0:  # what was sent shortly before may be late
            history = self._history
            late = history.total_sent_by(sent_at - ORDER_CERTAIN_S) - history.total_sent_by(sent_at - LATE_ARRIVAL_S)
            self.external.used = min(0.0, self.external.used + late)

    def on_sent(self, at: float) -> None:
        """To be called before the history records it: a bucket cannot have held more than its limit."""
        if self.external.used < 0 and self._history.level(at) >= self._history.limit:
            self.external.used = 0.0

    def earliest(self, cost: float, now: float) -> float:
        """When the bucket holds this cost."""
        facts, history = self._facts, self._history
        external = self.external_now(now)
        # A little more than is seen is assumed to be used by others: the bucket may never show itself so full.
        capacity = max(0.0, history.limit - external - (facts.external_margin if external > 0 else 0.0))
        reserve = facts.reserve_for(cost, now)
        if self.is_small:
            # At most half of what the smallest bucket holds, one of a second: else it could never be used.
            reserve = min(reserve, history.rate / 2)
        level = min(cost, capacity) + external + self.margin + facts.pending + reserve
        if level > history.limit:
            # More than it holds: it must be full, and then external debt must drain as well.
            full_at = max(history.level_reached_at(history.limit), facts.newest_sent_at)
            slack_s = 0.0 if self.is_small else ORDER_CERTAIN_S  # the pace leaves it already where the bucket is small
            return facts.external_drained_at(full_at, level - history.limit, slack_s)
        return history.level_reached_at(level)

    def available(self, now: float) -> float:
        facts = self._facts
        return (
            self._history.level(now) - self.margin - self.external_now(now) - facts.pending - facts.reserve.value(now)
        )
