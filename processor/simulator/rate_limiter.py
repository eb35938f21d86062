"""The referee: counts requests and tokens as a provider does, at arrival, and refuses. Pure: times are passed in.

Times are seconds on any clock that starts at or after 0 and does not go back.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from processor.simulator.counters import MINUTE_NS, SECOND_NS, ServerCounter, SlidingWindowCounter, TokenBucketCounter
from processor.simulator.rate_limit_headers import Dialect, Resource, rate_headers

LimiterKind = Literal["sliding", "minute", "second", "quantised", "silent"]
"""How a provider enforces a limit of N a minute.

``sliding``    no 60-second window holds more than N
``minute``     a continuously refilled bucket of N
``second``     a continuously refilled bucket of N/60; its headers speak of that bucket: limit N, remaining at most N/60
``quantised``  refuses by the second's bucket, but its headers speak of a minute's
``silent``     sliding, and no headers
"""
LIMITER_KINDS: tuple[LimiterKind, ...] = get_args(LimiterKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitDecision:
    """What the provider says to one request. All but `ok` describe the limit that refused it."""

    ok: bool
    which: Resource | None = None
    limit: int = 0
    used: int = 0
    requested: int = 0
    retry_after_s: float | None = None
    """None for an admitted request, and for one that is larger than the limit and so can never be admitted."""


@dataclass(slots=True)
class RequestLog:
    """Every admission, 16 bytes each, and how many were refused."""

    at_ns: array[int] = field(default_factory=lambda: array("q"))
    tokens: array[int] = field(default_factory=lambda: array("q"))
    refused: dict[Resource, int] = field(default_factory=lambda: {"requests": 0, "tokens": 0})

    @property
    def admitted(self) -> int:
        return len(self.at_ns)

    @property
    def first_at(self) -> float:
        return self.at_ns[0] / SECOND_NS

    @property
    def last_at(self) -> float:
        return self.at_ns[-1] / SECOND_NS

    def spent(self, resource: Resource, from_s: float, to_s: float) -> int:
        """What was admitted in the half-open interval (from_s, to_s]."""
        start, end = (bisect_right(self.at_ns, _ns(at)) for at in (from_s, to_s))
        return end - start if resource == "requests" else sum(self.tokens[start:end])

    def fullest_window(self, resource: Resource, width_s: float = 60.0) -> int:
        """The most that any half-open window (t - width, t] holds."""
        width, start, held, most = _ns(width_s), 0, 0, 0
        costs: Iterable[int] = self.tokens if resource == "tokens" else (1 for _ in self.at_ns)
        for now, cost in zip(self.at_ns, costs, strict=True):
            held += cost
            while self.at_ns[start] <= now - width:
                held -= self.tokens[start] if resource == "tokens" else 1
                start += 1
            most = max(most, held)
        return most


class ServerRateLimiter:
    """Limits on requests and on tokens a minute (None: no limit); a request is admitted where both have room.

    `count_refused`: a refused request counts against the requests limit too, as OpenAI documents it.
    """

    def __init__(
        self, rpm: int | None, tpm: int | None, *, kind: LimiterKind = "sliding", count_refused: bool = True
    ) -> None:
        self.kind: LimiterKind = kind
        self.count_refused = count_refused
        self.log = RequestLog()
        limits: dict[Resource, int | None] = {"requests": rpm, "tokens": tpm}
        known = {resource: limit for resource, limit in limits.items() if limit is not None}
        self._enforced = {resource: _ENFORCED[kind](limit) for resource, limit in known.items()}
        self._shown = self._enforced
        if kind == "quantised":
            self._shown = {resource: TokenBucketCounter(limit) for resource, limit in known.items()}

    def admit(self, at: float, tokens: int = 0, *, ours: bool = True) -> LimitDecision:
        """Judge one request as it arrives. `ours` = False: another client of the same key; kept out of the log."""
        now = _ns(at)
        costs: dict[Resource, int] = {"requests": 1, "tokens": tokens}
        full: list[Resource] = [name for name, meter in self._enforced.items() if meter.wait_ns(now, costs[name]) != 0]
        if full:
            return self._refuse(full, now, costs, ours)
        for meters in self._meter_sets():
            for resource, meter in meters.items():
                meter.take(now, costs[resource])
        if ours:
            self.log.at_ns.append(now)
            self.log.tokens.append(tokens)
        return _ADMITTED

    def headers(self, at: float, dialect: Dialect = "openai", *, epoch_s: float = 0.0) -> dict[str, str]:
        """What a response that starts now says about the limits. `epoch_s`: Unix time at 0 on this clock."""
        return {} if self.kind == "silent" else rate_headers(self._shown, _ns(at), dialect, epoch_s)

    def set_limits(self, at: float, *, rpm: int | None = None, tpm: int | None = None) -> None:
        """Change limits in the middle of a run; None leaves one as it is. What was used stays used."""
        limits: dict[Resource, int | None] = {"requests": rpm, "tokens": tpm}
        for meters in self._meter_sets():
            for resource, meter in meters.items():
                limit = limits[resource]
                if limit is not None:
                    meter.set_limit(_ns(at), limit)

    def ideal_s(self, costs: Iterable[int]) -> float:
        """The least time from the first to the last admission that these limits (as they are now, and unused)
        allow for requests of these tokens, in this order. Raises ValueError where one can never be admitted."""
        fresh = {resource: _ENFORCED[self.kind](meter.limit) for resource, meter in self._enforced.items()}
        now = 0
        for tokens in costs:
            cost: dict[Resource, int] = {"requests": 1, "tokens": tokens}
            now = _earliest(fresh, now, cost)
            for resource, meter in fresh.items():
                meter.take(now, cost[resource])
        return now / SECOND_NS

    def _meter_sets(self) -> tuple[dict[Resource, ServerCounter], ...]:
        return (self._enforced,) if self._shown is self._enforced else (self._enforced, self._shown)

    def _refuse(self, full: list[Resource], now: int, costs: dict[Resource, int], ours: bool) -> LimitDecision:
        if self.count_refused:
            for meters in self._meter_sets():
                if "requests" in meters:
                    meters["requests"].waste(now)
        waits = {name: meter.wait_ns(now, costs[name]) for name, meter in self._enforced.items()}
        # What can never be admitted is told first; else what is counted first.
        which = next((name for name in full if waits[name] is None), full[0])
        if ours:
            self.log.refused[which] += 1
        meter = self._enforced[which]
        return LimitDecision(
            ok=False,
            which=which,
            limit=meter.limit,
            used=meter.limit - meter.remaining(now),
            requested=costs[which],
            retry_after_s=None if waits[which] is None else max(wait or 0 for wait in waits.values()) / SECOND_NS,
        )


def _earliest(meters: dict[Resource, ServerCounter], now: int, costs: dict[Resource, int]) -> int:
    """The first instant from now at which every meter has room; waiting never takes room away."""
    for resource, meter in meters.items():
        wait = meter.wait_ns(now, costs[resource])
        if wait is None:
            raise ValueError(f"a request of {costs[resource]} {resource} exceeds the limit of {meter.limit}")
        now += wait
    return now


def _ns(at: float) -> int:
    return round(at * SECOND_NS)


_ADMITTED = LimitDecision(ok=True)
_ENFORCED: dict[LimiterKind, Callable[[int], ServerCounter]] = {
    "sliding": SlidingWindowCounter,
    "minute": lambda limit: TokenBucketCounter(limit, MINUTE_NS),
    "second": lambda limit: TokenBucketCounter(limit, SECOND_NS),
    "quantised": lambda limit: TokenBucketCounter(limit, SECOND_NS),
    "silent": SlidingWindowCounter,
}
