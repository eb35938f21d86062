"""The model of how a server counts one resource: takes requests and headers, returns when a cost fits.

Pure: no clock and no waiting; times are passed in, in seconds. Costs are in our units; what the server reports is in
the server's units and is converted here (`TokenRatio`).

A header's *remaining* is compared with what our own history predicts for a server that counts by a window, and for one
that refills a bucket. What it shows less than predicted, others have used; both models are followed with that much
taken off. Until the type is known, both must have room before a request is sent.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import Literal

from processor.ratelimit.estimator.counter_models import BucketModel, CounterFacts, WindowModel
from processor.ratelimit.estimator.external_usage import SHARED_KEY_SHARE, ExternalUsage, OtherClients
from processor.ratelimit.estimator.reported_header import Header
from processor.ratelimit.estimator.send_history import LATE_ARRIVAL_S, MERGE_S, ORDER_CERTAIN_S, WINDOW_S
from processor.ratelimit.estimator.token_ratio import TokenRatio
from processor.ratelimit.estimator.window_or_bucket import CounterClassifier, CounterType, Observation

UNLIMITED = 1e18
"""The limit where none is known."""

RESERVED_REQUESTS = 2
"""Requests for which room is reserved after a refusal."""
MAX_RESERVED_SHARE = 0.04
"""Most of the limit that is reserved, unless that is less than what two refusals reserve."""


class ServerModel:
    def __init__(self, limit: float | None, *, tolerance: float) -> None:
        """``limit``: a minute's, None: unknown. ``tolerance``: the share by which the server's costs may differ from
        ours; 0 where requests are counted, which are the same for both."""
        self.facts = CounterFacts(UNLIMITED if limit is None else limit, learns_ratio=tolerance > 0)
        self.history = self.facts.history
        self.limit = self.history.limit
        """A minute's, in our units."""
        self.rate = self.history.rate
        """Units per second."""
        self._tolerance = tolerance
        self._ratio = TokenRatio() if tolerance else None
        self._server_units_per_unit = 1.0
        self._classifier = CounterClassifier(tolerance)
        self._window = WindowModel(self.facts)
        self._bucket = BucketModel(self.facts, self._classifier)
        self._last_header: tuple[float, float, float] | None = None
        """When its request was sent, its cost, and what remained."""
        self._last_modelled_sent_at = -inf
        """When the newest request was sent whose header has been fitted or skipped."""
        self._others = OtherClients()
        self._shortfall_at = -inf
        """When the server last throttled although the model predicted room."""

    @property
    def counter_type(self) -> CounterType | None:
        return self._classifier.counter_type

    @property
    def headers_at(self) -> float:
        """When the newest response with a header arrived; -inf before the first."""
        return self.facts.headers_at

    @property
    def shared_key(self) -> bool:
        """Whether others have used a good part of the limit lately."""
        return self._others.is_shared(self.facts.newest_sent_at)

    @property
    def last_sent_at(self) -> float:
        return self.facts.last_sent_at

    @property
    def mean_cost(self) -> float:
        return self.facts.mean_cost

    @property
    def is_small_bucket(self) -> bool:
        return self._bucket.is_small

    @property
    def counter_kind(self) -> Literal["window", "bucket", "small bucket"] | None:
        """What the server counts by; None: not known."""
        return "small bucket" if self._bucket.is_small else self._classifier.counter_type

    @property
    def counter_period_s(self) -> float:
        return self._bucket.capacity / self.rate if self.is_small_bucket else WINDOW_S

    def is_stale(self, now: float) -> bool:
        """Whether others may have used by now what the newest header left."""
        return self._others.is_stale(self.facts.newest_sent_at, now)

    @property
    def may_be_in_debt(self) -> bool:
        """Whether the newest header shows nothing left and the counter may be a bucket: a request that costs more than
        the bucket holds leaves it below zero, which no header shows."""
        return self._last_header is not None and self._last_header[2] <= 0 and self.counter_type != "window"

    @property
    def shown_missing(self) -> float:
        """What the header that came last shows to be missing from a bucket; inf: it is not known to be one."""
        return self._bucket.shown_missing

    @property
    def full_at(self) -> float | None:
        """When a bucket is full again, if the newest request has shown what it misses."""
        if self._ratio is None or self.facts.pending:
            return None
        return self._ratio.full_at(self.last_sent_at, self.counter_type)

    @property
    def server_units_differ(self) -> bool:
        """Whether the server's unit may differ from ours, so that the ratio of the two must be learned."""
        return self._ratio is not None

    def cost_charged_at_least(self, charge: float) -> float:
        """The cost for which the server charges at least so much, in its units."""
        return charge / (self._server_units_per_unit * (1 - self._tolerance))

    def max_server_cost(self, cost: float) -> float:
        """The most that the server may charge for this cost, in its units."""
        return cost * self._server_units_per_unit * (1 + self._tolerance)

    # ------------------------------------------------------------ limits and units

    def on_limit(self, server_limit: float, sent_at: float) -> None:
        """A response names this limit, in the server's units, to a request sent then."""
        limit = server_limit / self._server_units_per_unit
        if limit == self.limit:
            return
        self._window.external, self._bucket.external = ExternalUsage(), ExternalUsage()
        self._last_header = None
        self._set_limit(limit, sent_at)

    def _rescale(self, limit: float) -> None:
        """Express the same limit in other units: ours turned out to be worth more, or less, at the server."""
        factor = limit / self.limit
        self._set_limit(limit)
        self._classifier.on_rescaled(factor)
        for model in (self._window, self._bucket):
            model.external.rescale(factor)
        if self._last_header is not None:
            sent_at, cost, remaining = self._last_header
            self._last_header = sent_at, cost, remaining * factor
            self._fit(self._observation(*self._last_header))

    def _set_limit(self, limit: float, since: float = -inf) -> None:
        self.history.set_limit(limit, since)
        self.limit, self.rate = limit, self.history.rate
        self._classifier.reset()

    # ------------------------------------------------------------ requests and headers

    def on_sent(self, cost: float, at: float) -> None:
        facts = self.facts
        facts.pending -= cost
        facts.last_sent_at = at
        self._bucket.on_sent(at)
        self.history.add(at, cost)
        if self._ratio is not None:
            self._ratio.on_sent(cost, at)

    def on_response_lost(self, cost: float) -> None:
        """A request that was sent will have no response: it is unknown whether it was counted."""
        self.history.add_answered(self.last_sent_at, cost)
        self._classifier.add_uncertainty(cost)

    def refund(self, excess: float, sent_at: float, at: float) -> None:
        """The server has counted less than was charged, by this much, and knows it at ``at``."""
        self.history.correct(sent_at, -excess, at)

    def observe(
        self, remaining: float, reset_s: float | None, *, sent_at: float, cost: float, at: float, refused: bool
    ) -> bool:
        """A response arrived at ``at`` and says what remained, in the server's units, when its request was counted.

        Returns whether the ratio of the units has changed, and with it the limit in our units.
        """
        rescaled = False
        if refused and self._ratio is not None:
            self._ratio.on_refused(sent_at, cost)
        elif not refused and (self._ratio is not None or self.counter_type is None):
            rescaled = self._learn(Header(sent_at, cost, remaining, reset_s, self.limit * self._server_units_per_unit))
        self._bucket.newest_remaining = remaining / self._server_units_per_unit
        self.facts.headers_at = at
        # Of requests sent at the same moment one header shows what all do, unless others use the key.
        is_same_moment = 0 <= sent_at - self._last_modelled_sent_at < MERGE_S
        if is_same_moment and not refused and self.counter_type is not None and not self.shared_key:
            return rescaled
        self._last_modelled_sent_at = max(self._last_modelled_sent_at, sent_at)
        if refused:
            self._classifier.add_uncertainty(cost)
        if sent_at >= max(self.facts.newest_sent_at - ORDER_CERTAIN_S, at - WINDOW_S):
            self.facts.reset_at = inf if reset_s is None else at + reset_s
            self._observe_newest(sent_at, cost, remaining / self._server_units_per_unit, refused=refused)
        return rescaled

    def _learn(self, header: Header) -> bool:
        if (ratio := self._ratio) is None:  # of a limit on requests, changes between headers tell the rest
            self._classifier.observe_second_bucket(header, self.history)
            return False
        if ratio_changed := ratio.observe(header, self.history, self.counter_type):
            self._server_units_per_unit = ratio.value
            self.facts.rounding = sqrt(self.limit / self.mean_cost)
            self._rescale(header.limit / ratio.value)
        self._classifier.observe_reset(header, is_second_bucket=ratio.is_second_bucket)
        return ratio_changed

    def _observe_newest(self, sent_at: float, cost: float, remaining: float, *, refused: bool) -> None:
        newest_sent_at = self.facts.newest_sent_at
        if newest_sent_at > -inf and sent_at > newest_sent_at + ORDER_CERTAIN_S:
            self._window.external.sample(newest_sent_at)
            self._bucket.external.sample(newest_sent_at)
        self.facts.newest_sent_at = max(newest_sent_at, sent_at)
        self._last_header = sent_at, cost, remaining
        observation = self._observation(sent_at, cost, remaining)
        self._fit(observation)
        if not refused:
            self._classifier.observe(observation)
        window_start = sent_at - WINDOW_S
        history = self.history
        left_late = history.total_sent_by(window_start + LATE_ARRIVAL_S) - history.total_sent_by(window_start)
        excess = -self._window.external.used - left_late - observation.may_be_counted_after
        self._classifier.rule_out_window(excess, self.limit - observation.window_prediction.low)

    def _observation(self, sent_at: float, cost: float, remaining: float) -> Observation:
        history = self.history
        before, by, after = history.bounds(sent_at)
        bounds = before, by, after + history.lowered_after(sent_at)
        overtaken = history.overtaken(sent_at) - cost
        if self.server_units_differ:  # what is reserved may be far from what is charged: the tolerance covers more
            shortly_before = before - history.total_sent_by(sent_at - LATE_ARRIVAL_S)
            overtaken = min(shortly_before, RESERVED_REQUESTS * cost)
        return Observation(
            sent_at=sent_at,
            remaining=remaining,
            total_sent=by,
            may_be_counted_before=history.total_sent_by(sent_at + LATE_ARRIVAL_S) - after,
            may_be_counted_after=max(0.0, overtaken),
            window_prediction=self._window.predict(sent_at, cost, bounds),
            bucket_prediction=self._bucket.predict(sent_at, cost, bounds),
        )

    def _fit(self, observation: Observation) -> None:
        self._window.fit(observation)
        self._bucket.fit(observation)
        # What one late arrival explains is not used by others.
        share = SHARED_KEY_SHARE * self.limit + observation.may_be_counted_before + observation.may_be_counted_after
        used = (self._bucket if self._bucket.is_certain else self._window).external.used
        self._others.observe(used, share, observation.sent_at, is_bucket=self._bucket.is_certain)

    def on_shortfall(self, now: float, *, is_new: bool) -> None:
        """A request was refused although the model had room: reserve some for a while.

        ``is_new``: the request was sent after the last such refusal arrived.
        """
        if is_new and (self.shared_key or now - self._shortfall_at <= WINDOW_S):
            # One request may have arrived late. A second so soon: others use the key, or it is a window after all.
            if self._bucket.is_certain and not self.is_small_bucket:
                self._classifier.counter_type = None
            self._others.shared_at = now
        self._shortfall_at = now
        _, cost, remaining = self._last_header or (now, inf, 0.0)
        reserved = RESERVED_REQUESTS * min(self.mean_cost, max(1.0, cost - remaining))
        self.facts.reserve.raise_by(reserved, now, maximum=max(2 * reserved, MAX_RESERVED_SHARE * self.limit))

    # ------------------------------------------------------------ predictions

    def earliest(self, cost: float, now: float) -> float:
        """When the server certainly has room for this cost; inf: something must happen first."""
        if now < self.facts.alone_until:
            return self.facts.alone_until
        if self._bucket.is_certain:
            return self._bucket.earliest(cost, now)
        window_at = self._window.earliest(cost, self._window.external_now(now), now)
        return window_at if self._window_suffices else max(window_at, self._bucket.earliest(cost, now))

    def earliest_for_calibration(self, cost: float, now: float) -> float:
        """The same for one request that is to show the type: a window that others seem to fill may be a small bucket,
        so external usage of the window is left out."""
        return max(self._window.earliest(cost, 0.0, now), self._bucket.earliest(cost, now))

    def earliest_in_own_window(self, cost: float, maximum: float, now: float) -> float:
        """When a window of our own requests alone, without any other client's, holds no more than ``maximum``."""
        history = self.history
        return history.window_frees_at(history.in_window(now) + self.facts.pending + cost - maximum, now)

    def available(self, now: float) -> float:
        """What fits now."""
        if self._bucket.is_certain:
            return self._bucket.available(now)
        window = self._window.available(now)
        return window if self._window_suffices else min(window, self._bucket.available(now))

    @property
    def _window_suffices(self) -> bool:
        """Whether the bucket model need not agree. Where others use the key the types look alike: both must."""
        return self.headers_at == -inf or (self.counter_type == "window" and not self.shared_key)
