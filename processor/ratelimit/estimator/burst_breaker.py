"""How far a server's word is taken: may more go at once than even pacing would let through? Pure.

Some servers speak of a minute and refuse by the second. So a burst is first tried with little more than a
second's worth; only when all of that has been answered, and nothing refused, the rest may follow.
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf

from processor.ratelimit.estimator.token_ratio import BURST_WINDOW_S

PROBE_S = 1.2
"""Seconds' worth of a first burst: more than a second's bucket holds."""

HEADERS_STALE_S = 10.0
"""Without a header for so long, the next burst waits for one."""

OPEN_AFTER_SUCCESS_S = 300.0
"""A broken promise is forgiven after so long where bursts were let through before: it may have been an overload, or a
request that arrived late."""
OPEN_S = 3600.0
"""And after so long where none ever was: rather it is how the server counts. Both double with each one."""
_MOST_DOUBLINGS = 6


class BreakerState(Enum):
    WARY = auto()
    """Nothing is known yet, or no longer."""
    PROBING = auto()
    PROVEN = auto()
    BROKEN = auto()
    """The server has refused what its headers promised."""


class BurstBreaker:
    def __init__(self) -> None:
        self.state = BreakerState.WARY
        self.probe_ended = -inf
        self.broken_at = inf
        """Since when the headers are not taken at their word any more."""
        self._wary_at = inf
        """When they are again."""
        self._broken = 0
        """Promises, so far."""
        self._probe_began = inf
        self._probe_last = inf
        """When its last request went, so far."""
        self._allowance = 0.0
        self._cost = 0.0
        """Of the probe so far."""
        self._open = 0
        """Requests of the probe that are not answered yet."""

    def may_burst(self, cost: float, heard_at: float, now: float) -> bool:
        if self.state is BreakerState.PROVEN:
            return now - heard_at < HEADERS_STALE_S
        if self.state is not BreakerState.PROBING:
            return False
        if self._allowance < cost and self._open:
            self._end(now)
        return self._allowance >= cost

    @property
    def at_once(self) -> float:
        """How much may go in a burst now."""
        if self.state is BreakerState.PROVEN:
            return inf
        return self._allowance if self.state is BreakerState.PROBING else 0.0

    def probe(self, allowance: float, now: float) -> None:
        self.state = BreakerState.PROBING
        self._allowance = allowance
        self._cost = 0.0
        self._open = 0
        self._probe_began, self.probe_ended = now, inf

    def granted(self, cost: float, now: float) -> None:
        if self.state is not BreakerState.PROBING or now > self.probe_ended:
            return
        self._open += 1
        self._cost += cost
        self._allowance -= cost
        self._probe_last = now

    def _end(self, now: float) -> None:
        """The probe is over when there is no allowance for the next request."""
        self.probe_ended = min(self.probe_ended, now + BURST_WINDOW_S)

    def answered(self, granted_at: float, least: float) -> None:
        """A request has its response, or will never have one. ``least``: what a probe must have cost to prove
        anything, for each second that it lasted too; the server may have shown meanwhile that it charges less than
        was thought."""
        if self.state is BreakerState.PROBING and self._probe_began <= granted_at <= self.probe_ended:
            self._open -= 1
            if self._open == 0 and self.probe_ended < inf:
                lasted_s = self._probe_last - self._probe_began
                self.state = BreakerState.PROVEN if self._cost >= least * (1 + lasted_s) else BreakerState.WARY

    def refused(self, granted_at: float, at: float, *, promised: bool) -> None:
        """``promised``: the headers showed room for what was refused."""
        broken = self.state is BreakerState.BROKEN
        if promised and not (broken and granted_at <= self.broken_at):
            within_s = OPEN_AFTER_SUCCESS_S if self.state is BreakerState.PROVEN else OPEN_S
            self._wary_at = at + within_s * 2 ** min(self._broken, _MOST_DOUBLINGS)
            self._broken += 1
            self.state = BreakerState.BROKEN
            self.broken_at = min(self.broken_at, at)
        elif not broken:
            self.state = BreakerState.WARY

    def forgive(self, now: float) -> None:
        if self.state is BreakerState.BROKEN and now >= self._wary_at:
            self.state = BreakerState.WARY
            self.broken_at = inf
