"""A circuit breaker for bursts: may more be sent at once than even pacing lets through? Pure.

Some servers report a minute's limit and refuse by the second. So the first burst costs little more than a second's
limit (a test); bursts are allowed once all of it has been answered and nothing throttled. A 429 although the headers
showed room forbids bursts: even pacing only, for a time that doubles with each such 429.
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf

from processor.ratelimit.estimator.external_usage import FORECAST_S
from processor.ratelimit.estimator.token_ratio import BURST_WINDOW_S

PROBE_S = 1.11
"""Cost of the first burst, in seconds of the limit: more than a bucket of one second holds."""

OPEN_S = 3600.0
"""How long bursts are forbidden the first time; then twice as long each time. Probably the server counts by the
second, and even pacing loses little."""


class BreakerState(Enum):
    UNTESTED = auto()
    TESTING = auto()
    """The first burst is being sent, or waits for its responses."""
    ALLOWED = auto()
    """Bursts are allowed."""
    FORBIDDEN = auto()
    """The server has sent a 429 for what its headers had room for."""


class BurstBreaker:
    def __init__(self) -> None:
        self.state = BreakerState.UNTESTED
        self.probe_ended_at = -inf
        """inf while the first burst is being sent."""
        self.forbidden_at = inf
        """When the server first sent a 429 although the headers showed room; inf: it has sent none."""
        self._reset_at = inf
        self._forbidden_s = OPEN_S
        self._probe_began_at = inf
        self._probe_last_at = inf
        """When the newest request of the probe was granted."""
        self._probe_budget = self._probe_rate = 0.0
        self._probe_cost = 0.0
        self._probe_largest_cost = self._probe_shown = 0.0
        self._probe_unanswered = 0
        """Requests."""

    @property
    def burst_budget(self) -> float:
        """How much may be sent at once now."""
        if self.state is BreakerState.ALLOWED:
            return inf
        return self._probe_budget if self.state is BreakerState.TESTING else 0.0

    def allows(self, cost: float, headers_at: float, now: float) -> bool:
        """Whether this cost may be sent as part of a burst, where the newest header came at ``headers_at``.

        Ends the probe where its budget is used up.
        """
        if self.state is BreakerState.ALLOWED:
            return now - headers_at < FORECAST_S
        if self.state is not BreakerState.TESTING:
            return False
        if self._probe_budget <= 0 and self._probe_unanswered:
            self.probe_ended_at = min(self.probe_ended_at, now + BURST_WINDOW_S)
        return self._probe_budget > 0

    def start_probe(self, budget: float, missing: float, now: float, *, rate: float = 0.0) -> None:
        """``missing``: what a bucket of one second has not got back yet. ``rate``: the units a second that it gets back
        while the burst is being sent."""
        self.state = BreakerState.TESTING
        self._probe_budget = budget
        self._probe_cost, self._probe_largest_cost, self._probe_shown = missing, 0.0, 0.0
        self._probe_unanswered = 0
        self._probe_began_at, self.probe_ended_at = now, inf
        self._probe_rate, self._probe_last_at = rate, now

    def cancel_probe(self) -> None:
        if self.state is BreakerState.TESTING:
            self.state = BreakerState.UNTESTED

    def on_grant(self, cost: float, now: float) -> None:
        if self.state is not BreakerState.TESTING or now > self.probe_ended_at:
            return
        self._probe_unanswered += 1
        self._probe_cost += cost
        if cost > self._probe_largest_cost:
            self._probe_largest_cost = cost
        self._probe_budget -= cost
        if now <= self._probe_last_at + BURST_WINDOW_S:  # while a burst is being sent, a bucket refills
            self._probe_budget += self._probe_rate * (now - self._probe_last_at)
        self._probe_last_at = now

    def on_response(self, granted_at: float, rate: float, shown_missing: float = inf) -> None:
        """A request has its response, or will never have one. ``rate``: units a second; it may have changed since the
        probe began, if the server turned out to charge less."""
        if self.state is BreakerState.TESTING and self._probe_began_at <= granted_at <= self.probe_ended_at:
            self._probe_unanswered -= 1
            if shown_missing > self._probe_shown:
                self._probe_shown = shown_missing
            if self._probe_unanswered == 0 and self.probe_ended_at < inf:
                lasted_s = self._probe_last_at - self._probe_began_at
                # More than a bucket of one second can have let through in that time. It lets through any request
                # when it is full.
                excess = max(0.0, self._probe_largest_cost - rate)
                # Requests that arrive late give it time for more: where the headers are a bucket's, they show it.
                is_proof = min(self._probe_cost - rate * lasted_s, self._probe_shown) - excess > rate
                self.state = BreakerState.ALLOWED if is_proof else BreakerState.UNTESTED

    def on_throttled(self, granted_at: float, at: float, *, had_room: bool) -> None:
        """A request was throttled. ``had_room``: the headers showed room for it."""
        is_forbidden = self.state is BreakerState.FORBIDDEN
        if had_room and not (is_forbidden and granted_at <= self.forbidden_at):
            self._reset_at = at + self._forbidden_s
            self._forbidden_s *= 2
            self.state = BreakerState.FORBIDDEN
            self.forbidden_at = min(self.forbidden_at, at)
        elif not is_forbidden:
            self.state = BreakerState.UNTESTED

    def reset_if_due(self, now: float) -> None:
        if self.state is BreakerState.FORBIDDEN and now >= self._reset_at:
            self.state = BreakerState.UNTESTED
            self.forbidden_at = inf
