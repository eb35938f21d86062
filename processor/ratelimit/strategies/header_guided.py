"""Sends a burst where the server model has room and bursts are allowed; otherwise paces evenly. Pure.

While the type of the counter is unknown, a few requests are kept back from a burst and sent one by one (calibration):
each shows whether something has come back meanwhile, and so whether the server counts by a window or by a bucket.
"""

from __future__ import annotations

from math import inf

from processor.ratelimit.estimator.burst_breaker import PROBE_S, BreakerState, BurstBreaker
from processor.ratelimit.estimator.counter_models import SMALL_BUCKET_S
from processor.ratelimit.estimator.lone_charges import RATIO_BURST_REQUESTS
from processor.ratelimit.estimator.send_history import MERGE_S
from processor.ratelimit.estimator.server_model import UNLIMITED, ServerModel
from processor.ratelimit.estimator.token_ratio import ISOLATION_S
from processor.ratelimit.strategies.base import Strategy
from processor.ratelimit.strategies.pacer import PER_SECOND_BUCKET_S, Pacer

CALIBRATION_REQUESTS = 3
"""Requests kept back from the first bursts, while the type of the counter is unknown."""


class HeaderGuided(Strategy):
    def __init__(self, model: ServerModel, pacer: Pacer, *, bursts: bool) -> None:
        super().__init__(model, pacer)
        self._bursts = bursts
        self._breaker = BurstBreaker()
        self._is_ratio_tested = False
        """Whether a burst was sent from which the token ratio can be learned."""
        self._fast_path_cost = 0.0
        self._fast_path_until = -inf

    @property
    def bursts_are_refused(self) -> bool:
        """Whether the server has refused a burst that its headers had room for."""
        return self._breaker.state is BreakerState.FORBIDDEN

    @property
    def pacing_limit(self) -> float:
        return self._model.limit

    def earliest(self, cost: float, now: float) -> float:
        model = self._model
        cost = min(cost, model.limit)
        if cost <= self._fast_path_cost and now < self._fast_path_until:
            return now
        is_type_known = model.counter_type is not None
        fits_at = model.earliest(cost, now) if is_type_known else self._earliest_for_calibration(cost, now)
        if self._must_pace(now):
            return max(fits_at, self._paced_at(cost))
        at = max(fits_at, self._burst_at(cost, now))
        if at <= now and is_type_known:
            self._fast_path_cost = min(model.available(now), self._breaker.burst_budget)
            self._fast_path_until = now + MERGE_S
        return at

    def record(self, cost: float, at: float) -> None:
        limit = self._model.limit
        if limit < UNLIMITED:
            self._pacer.record(cost, limit, at)
        self._fast_path_cost -= cost
        self._breaker.on_grant(cost, at)

    def observe(self, granted_at: float) -> None:
        if self._breaker.state is BreakerState.TESTING:
            self._breaker.on_response(granted_at, self._model.rate, self._model.shown_missing)

    def throttled(self, granted_at: float, at: float, *, had_room: bool, is_new: bool) -> None:
        was_paced = self.bursts_are_refused or self._model.is_small_bucket
        if is_new and was_paced and self._pacer.assume_per_second_bucket:
            self._pacer.back_off(at)
        self._breaker.on_throttled(granted_at, at, had_room=had_room)
        self.headers_believed_until = self._breaker.forbidden_at
        self.clear_fast_path()

    def deactivate(self) -> None:
        self._breaker.cancel_probe()
        self.clear_fast_path()

    def clear_fast_path(self) -> None:
        self._fast_path_cost = 0.0

    def _must_pace(self, now: float) -> bool:
        """Whether bursts are not wanted, gain nothing, or may meet room that others or a debt have used."""
        model = self._model
        return not self._bursts or model.is_small_bucket or model.may_be_in_debt or model.is_stale(now)

    def _burst_at(self, cost: float, now: float) -> float:
        """At once, as far as the breaker allows a burst, else evenly."""
        model, breaker, rate = self._model, self._breaker, self._model.rate
        breaker.reset_if_due(now)
        is_untested = breaker.state is BreakerState.UNTESTED
        is_untested = is_untested or (breaker.state is BreakerState.ALLOWED and not self._is_ratio_tested)
        if is_untested and model.available(now) >= SMALL_BUCKET_S * rate:
            isolated_at = self._isolated_at(model.last_sent_at)
            if now < isolated_at:
                return isolated_at
            self._start_probe(now)
        if breaker.allows(cost, model.headers_at, now):
            return now
        return max(self._paced_at(cost), self._isolated_at(breaker.probe_ended_at))

    def _start_probe(self, now: float) -> None:
        """Send a first burst that shows whether bursts are allowed; and where it was too small for that, a second one
        from which the token ratio is learned, before all that fits is sent."""
        model = self._model
        missing = min(model.rate, model.limit - model.history.level(now))
        budget, for_ratio = PROBE_S * model.rate - missing, RATIO_BURST_REQUESTS * model.mean_cost
        if self._breaker.state is BreakerState.ALLOWED:
            budget = for_ratio = min(for_ratio, model.available(now) / 2)  # the server may charge more
        self._is_ratio_tested |= not model.server_units_differ or budget >= for_ratio
        # Only the headers of a bucket must show all of it: of an unknown type more would be refused for nothing.
        self._breaker.start_probe(budget, missing, now, rate=model.rate if model.counter_type == "bucket" else 0.0)

    def _isolated_at(self, sent_at: float) -> float:
        """Leave a gap around a burst from which the token ratio is learned."""
        return sent_at + ISOLATION_S if self._model.server_units_differ and sent_at < inf else -inf

    def _paced_at(self, cost: float) -> float:
        return self._pacer.earliest(cost, self._model.limit)

    def _earliest_for_calibration(self, cost: float, now: float) -> float:
        """Keep a few requests back, and send them one by one: a bucket of one second is full for each."""
        model = self._model
        next_at = model.last_sent_at + max(PER_SECOND_BUCKET_S, model.mean_cost / model.rate)
        one_by_one_at = max(model.earliest_for_calibration(cost, now), next_at)
        return min(one_by_one_at, model.earliest(cost + CALIBRATION_REQUESTS * model.mean_cost, now))
