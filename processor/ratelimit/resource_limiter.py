"""One limit of a limit group: keeps the server model up to date, and chooses the strategy that decides. Pure.

| what is known | strategy |
| --- | --- |
| no limit on requests | AIMD: at once; after unexplained 429s at a rate found by trying |
| no limit on tokens | unlimited: at once |
| a configured limit, and the server reports none | fixed rate |
| a configured limit below the reported one | fixed rate, as a maximum |
| a reported limit | header-guided |
"""

from __future__ import annotations

from math import inf

from processor.core.models import JSON
from processor.ratelimit.estimator.send_history import WINDOW_S
from processor.ratelimit.estimator.server_model import UNLIMITED, ServerModel
from processor.ratelimit.headers import Reported
from processor.ratelimit.strategies.aimd_rate import AimdStrategy
from processor.ratelimit.strategies.base import Strategy
from processor.ratelimit.strategies.fixed_rate import FixedRate
from processor.ratelimit.strategies.header_guided import HeaderGuided
from processor.ratelimit.strategies.pacer import PER_SECOND_BUCKET_S, Pacer
from processor.ratelimit.strategies.unlimited import Unlimited

LIMIT_TOLERANCE = 0.01
"""Limits that differ by no more than this share are the same."""


class ResourceLimiter:
    """Costs are in our units. ``configured`` and ``reported`` are a minute's, in the server's units."""

    def __init__(self, configured: float | None, *, tolerance: float, bursts: bool = True) -> None:
        """``tolerance``: see ServerModel. ``bursts``: False paces evenly wherever a limit is known."""
        self.configured = configured
        self.reported: float | None = None
        self.model = ServerModel(configured, tolerance=tolerance)
        self._pacer = Pacer()
        self._aimd = None if tolerance else AimdStrategy(self.model, self._pacer)
        self._without_limit: Strategy = self._aimd or Unlimited(self.model, self._pacer)
        self._header_guided = HeaderGuided(self.model, self._pacer, bursts=bursts)
        self._fixed_rate = FixedRate(self.model, self._pacer)
        self._strategy: Strategy = self._without_limit if configured is None else self._fixed_rate
        self._maximum: float | None = None
        """The configured limit where it is below the reported one."""
        self._known_counter_kind: str | None = None
        self._throttled_at = -inf
        self._limit_sent_at = -inf
        """When the newest request was sent whose response named the limit."""
        self._limit_first_seen_at = -inf
        """When the first request was sent whose response named the present limit."""
        self._limit_changed_at = -inf
        self._limit_confirmed = False
        """Whether the reported limit was the first, or has not changed for a minute: a wrong value would have been
        corrected."""
        self.max_cost = self._max_cost()
        """The most that a request may cost: what exceeds a whole minute's limit is never sent."""

    @property
    def limit(self) -> float | None:
        """The limit in force, in the server's units; None: none is known."""
        return self._maximum or self.reported or self.configured

    @property
    def is_overruled(self) -> bool:
        """Whether more is configured than the server grants."""
        return self.configured is not None and self.configured > (1 + LIMIT_TOLERANCE) * (self.reported or inf)

    @property
    def counter(self) -> JSON | None:
        """How the server counts, as ``LimitsChanged.counters`` describes it; None: not known."""
        if self.reported is None or (kind := self._counter_kind) is None:
            return None
        is_refusing = kind == "refuses bursts"
        period_s = PER_SECOND_BUCKET_S if is_refusing else self.model.counter_period_s
        return {
            "kind": "window" if kind == "window" else "bucket",
            "size": round(self.reported * period_s / WINDOW_S, 1),
            "period_s": round(period_s, 2),
            "is_announced": not is_refusing,
        }

    @property
    def _counter_kind(self) -> str | None:
        return "refuses bursts" if self._header_guided.bursts_are_refused else self.model.counter_kind

    def has_new_counter(self) -> bool:
        """Whether responses have shown since the last call that the server counts in another way than was known."""
        before, self._known_counter_kind = self._known_counter_kind, self._counter_kind
        return self._known_counter_kind != before

    def _max_cost(self) -> float:
        """The least that the server may charge for it is its whole limit: trying a job that is too large costs one
        request, not trying could lose it."""
        configured = inf if self.configured is None else self.configured
        if self.reported is None or not self._limit_confirmed:
            return configured
        return min(configured, self.model.cost_charged_at_least(self.reported))

    def earliest(self, cost: float, now: float) -> float:
        """The earliest time at which this cost may be sent, as far as is known now; inf: not before something else
        happens."""
        return self._strategy.earliest(cost, now)

    # ------------------------------------------------------------ the course of a request

    def on_grant(self, cost: float, now: float) -> None:
        self.model.facts.on_grant(cost, now)
        self._strategy.record(cost, now)

    def on_cancelled(self, cost: float, granted_at: float) -> None:
        """The permit was given back before anything was sent."""
        self.model.facts.on_cancelled(cost)
        self._strategy.refund(cost)
        self._strategy.observe(granted_at)

    def on_sent(self, cost: float, at: float) -> None:
        self.model.on_sent(cost, at)
        self._strategy.on_sent(at)

    def on_response(self, cost: float, granted_at: float, at: float) -> None:
        self.model.history.add_answered(at, cost)
        self._strategy.observe(granted_at)

    def on_accepted(self, sent_at: float) -> None:
        """A request sent then has been answered without a 429."""
        self._strategy.on_accepted(sent_at)

    def on_response_lost(self, cost: float, granted_at: float) -> None:
        """The request was sent, and will have no response."""
        self.model.on_response_lost(cost)
        self._strategy.observe(granted_at)

    def refund(self, excess: float, sent_at: float, at: float) -> None:
        """The server has counted less than was charged, by this much, and knows it at ``at``."""
        self.model.refund(excess, sent_at, at)
        self._strategy.refund(excess)

    # ------------------------------------------------------------ what the server says

    def on_headers(self, reported: Reported, sent_at: float, cost: float, at: float, *, refused: bool) -> bool:
        """A response says this about the limit. Returns whether the limit in force changes."""
        limit, remaining, reset_s = reported
        is_newest = limit is not None and sent_at >= self._limit_sent_at
        changed = is_newest and self._on_limit(limit or 0.0, sent_at, at)
        # More than the whole limit makes no sense: believing it would send far too many.
        plausible = (1 + LIMIT_TOLERANCE) * (self.reported or self.configured or -inf)
        if remaining is not None and remaining <= plausible:
            if self.model.observe(remaining, reset_s, sent_at=sent_at, cost=cost, at=at, refused=refused):
                self.max_cost = self._max_cost()
                self._header_guided.clear_fast_path()
            if (full_at := self.model.full_at) is not None:
                self._pacer.correct(full_at)
            if self._strategy is not self._header_guided:
                self._choose_strategy()
        return changed

    def on_headers_absent(self) -> None:
        """A request was answered well, and the headers say nothing about this limit."""
        if self.reported is None and self._throttled_at == -inf:
            self._pacer.assume_per_second_bucket = False

    def _on_limit(self, limit: float, sent_at: float, at: float) -> bool:
        self._limit_sent_at = sent_at
        if limit == self.reported:
            if not self._limit_confirmed and sent_at >= self._limit_first_seen_at + WINDOW_S:
                self._limit_confirmed = True
                self.max_cost = self._max_cost()
            return False
        self._limit_confirmed, self._limit_first_seen_at = self.reported is None, sent_at
        if self.reported is not None:
            self._limit_changed_at = at
        before, self.reported = self.limit, limit
        self.max_cost = self._max_cost()
        is_below = self.configured is not None and self.configured < (1 - LIMIT_TOLERANCE) * limit
        self._maximum = self.configured if is_below else None
        if is_below:
            self._pacer.assume_per_second_bucket = False
        self._header_guided.clear_fast_path()
        self.model.on_limit(limit, sent_at)
        self._choose_strategy()
        return self.limit != before

    def _choose_strategy(self) -> None:
        if self._maximum is not None:
            chosen: Strategy = self._fixed_rate
            self._fixed_rate.maximum = self._maximum
        elif self.model.headers_at > -inf:
            chosen = self._header_guided
        else:
            chosen = self._without_limit if self.model.limit == UNLIMITED else self._fixed_rate
            self._fixed_rate.maximum = None
        if chosen is not self._strategy:
            self._strategy.deactivate()
            self._strategy = chosen

    # ------------------------------------------------------------ what a 429 means

    def max_server_cost(self, cost: float) -> float:
        """The most that the server may charge for this, in its units."""
        return self.model.max_server_cost(cost)

    def may_explain_429(self, granted_at: float, *, is_exhausted: bool) -> bool:
        """Whether a refusal may be due to this limit.

        ``is_exhausted``: its headers show no room. Where they do, the limit counts if they were still believed.
        """
        return self.limit is not None and (is_exhausted or granted_at <= self._strategy.headers_believed_until)

    def on_throttled(self, granted_at: float, at: float, *, had_room: bool) -> None:
        """A request was refused. ``had_room``: the headers showed room for it."""
        is_new = granted_at > self._throttled_at
        # What is refused because the limit has changed is no reason to pace slower.
        self._strategy.throttled(
            granted_at, at, had_room=had_room, is_new=is_new and granted_at > self._limit_changed_at
        )
        self._throttled_at = at
        self._pacer.assume_per_second_bucket = True
        if not had_room:
            self.model.on_shortfall(at, is_new=is_new)

    def on_unexplained_429(self, sent_at: float, at: float, *, is_wait_named: bool = False) -> None:
        """A request was throttled, no known limit explains it, and requests have none: find a rate by trying."""
        assert self._aimd is not None, "no rate of tokens is found"
        self._aimd.on_unexplained_429(sent_at, at, is_wait_named=is_wait_named)

    @property
    def has_found_rate(self) -> bool:
        """Whether a rate is in force because of unexplained 429s."""
        return self._aimd is not None and self._aimd.rate.per_minute is not None

    def reset_pacer(self, until: float, cost: float) -> None:
        """The server has said that there will be room for this cost at ``until``."""
        self._pacer.reset(until, cost, self.model.rate)
        self._header_guided.clear_fast_path()
