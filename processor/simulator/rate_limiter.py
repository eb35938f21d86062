"""The provider's rate limiter: counts requests and tokens when they arrive, and throttles. Pure: times are passed in.

Times are seconds on any monotonic clock that starts at or after 0.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from itertools import count
from typing import Literal, get_args

from processor.core.fast_dataclass import dataclass
from processor.simulator.counters import MINUTE_NS, SECOND_NS, ServerCounter, SlidingWindowCounter, TokenBucketCounter
from processor.simulator.rate_limit_headers import Dialect, Resource, rate_headers

LimiterKind = Literal["sliding", "minute", "second", "quantised", "silent"]
"""How a provider enforces a limit of N a minute.

``sliding``    no 60-second window holds more than N
``minute``     a continuously refilled bucket of N
``second``     a continuously refilled bucket of N/60; its headers describe that bucket: limit N, remaining at most N/60
``quantised``  enforces the bucket of a second, but its headers describe the bucket of a minute
``silent``     like sliding, without headers
"""
LIMITER_KINDS: tuple[LimiterKind, ...] = get_args(LimiterKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitDecision:
    """The decision on one request. All fields but `is_admitted` describe the limit that throttled it."""

    is_admitted: bool
    resource: Resource | None = None
    limit: int = 0
    used: int = 0
    requested: int = 0
    retry_after_s: float | None = None
    """None for an admitted request, and for one that exceeds the limit and can never be admitted."""


MAX_LOGGED = 2_000_000
"""Requests that the log holds: 32 MB."""


@dataclass(slots=True)
class RequestLog:
    """The last admitted requests (16 bytes each), and the numbers of all admitted and throttled ones."""

    at_ns: array[int] = field(default_factory=lambda: array("q"))
    tokens: array[int] = field(default_factory=lambda: array("q"))
    throttled: Counter[Resource] = field(default_factory=Counter)

    admitted: int = 0

    def record(self, at_ns: int, tokens: int) -> None:
        """Add an admitted request."""
        self.admitted += 1
        self.at_ns.append(at_ns)
        self.tokens.append(tokens)
        if len(self.at_ns) > MAX_LOGGED:
            del self.at_ns[: MAX_LOGGED // 2], self.tokens[: MAX_LOGGED // 2]

    @property
    def first_at(self) -> float:
        return self.at_ns[0] / SECOND_NS

    @property
    def last_at(self) -> float:
        return self.at_ns[-1] / SECOND_NS

    def used_between(self, resource: Resource, from_s: float, to_s: float) -> int:
        """Requests or tokens admitted in the half-open interval (from_s, to_s]."""
        start, end = (bisect_right(self.at_ns, _ns(at)) for at in (from_s, to_s))
        return end - start if resource == "requests" else sum(self.tokens[start:end])

    def max_in_window(self, resource: Resource, width_s: float = 60.0) -> int:
        """The most requests or tokens in any half-open window (t - width_s, t]."""
        width, start, held, most = _ns(width_s), 0, 0, 0
        costs: Iterable[int] = self.tokens if resource == "tokens" else (1 for _ in self.at_ns)
        for now_ns, cost in zip(self.at_ns, costs, strict=True):
            held += cost
            while self.at_ns[start] <= now_ns - width:
                held -= self.tokens[start] if resource == "tokens" else 1
                start += 1
            most = max(most, held)
        return most


class ServerRateLimiter:
    """Limits per minute (None: no limit) on requests, tokens, and tokens of prompts and replies apart. A request is
    admitted if it fits all of them.

    `count_throttled`: a throttled request counts against the requests limit, too, as OpenAI documents it.
    """

    def __init__(
        self,
        rpm: int | None,
        tpm: int | None,
        *,
        input_tpm: int | None = None,
        output_tpm: int | None = None,
        kind: LimiterKind = "sliding",
        count_throttled: bool = True,
    ) -> None:
        self.kind: LimiterKind = kind
        self.count_throttled = count_throttled
        self.log = RequestLog()
        limits: dict[Resource, int | None] = {
            "requests": rpm,
            "tokens": tpm,
            "input_tokens": input_tpm,
            "output_tokens": output_tpm,
        }
        known = {resource: limit for resource, limit in limits.items() if limit is not None}
        self._enforced_counters = {resource: _COUNTER_OF[kind](limit) for resource, limit in known.items()}
        self._reported_counters = self._enforced_counters
        if kind == "quantised":
            self._reported_counters = {resource: TokenBucketCounter(limit) for resource, limit in known.items()}
        self._corrections: list[tuple[int, int, int, Resource, int]] = []
        """A heap: when they are due, a number, when the request was admitted, and how much less it has used."""
        self._numbers = count()

    def admit(
        self,
        at: float,
        tokens: int = 0,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        is_other_client: bool = False,
    ) -> LimitDecision:
        """Decide on a request that arrives at `at`. Requests of another client of the same key are not logged."""
        now_ns = _ns(at)
        self._correct(now_ns)
        costs: dict[Resource, int] = {
            "requests": 1,
            "tokens": tokens,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
        }
        full: list[Resource] = [
            name for name, counter in self._enforced_counters.items() if counter.ns_until_fits(now_ns, costs[name]) != 0
        ]
        if full:
            return self._throttle(full, now_ns, costs, is_other_client)
        for counters in self._counter_sets():
            for resource, counter in counters.items():
                counter.count(now_ns, costs[resource])
        if not is_other_client:
            self.log.record(now_ns, tokens)
        return _ADMITTED

    def headers(self, at: float, dialect: Dialect = "openai", *, epoch_s: float = 0.0) -> dict[str, str]:
        """The rate-limit headers of a response that starts at `at`. `epoch_s`: Unix time at 0 on this clock."""
        self._correct(_ns(at))
        return {} if self.kind == "silent" else rate_headers(self._reported_counters, _ns(at), dialect, epoch_s)

    def correct(self, at: float, admitted_at: float, unused: Mapping[Resource, int]) -> None:
        """Count at `at` that a request has used so much less, or more where negative, than was counted for it."""
        for resource, amount in unused.items():
            if amount and resource in self._enforced_counters:
                heapq.heappush(self._corrections, (_ns(at), next(self._numbers), _ns(admitted_at), resource, amount))

    def set_limits(self, at: float, *, rpm: int | None = None, tpm: int | None = None) -> None:
        """Change limits; None leaves a limit as it is. What was used stays used."""
        limits: dict[Resource, int | None] = {"requests": rpm, "tokens": tpm}
        for counters in self._counter_sets():
            for resource, counter in counters.items():
                limit = limits[resource]
                if limit is not None:
                    counter.set_limit(_ns(at), limit)

    def min_duration_s(self, costs: Iterable[int | Mapping[Resource, int]]) -> float:
        """The shortest time from the first to the last admission of requests with these token costs, in this order.

        A cost is a number of tokens, or one for each resource. It counts with the present limits, unused, and corrects
        nothing. Raises ValueError for a request that can never be admitted.
        """
        new_counter = _COUNTER_OF[self.kind]
        fresh = {resource: new_counter(counter.limit) for resource, counter in self._enforced_counters.items()}
        now_ns = 0
        for tokens in costs:
            cost: dict[Resource, int] = {"requests": 1, "tokens": 0, "input_tokens": 0, "output_tokens": 0}
            cost |= {"tokens": tokens} if isinstance(tokens, int) else tokens
            now_ns = _earliest_ns(fresh, now_ns, cost)
            for resource, counter in fresh.items():
                counter.count(now_ns, cost[resource])
        return now_ns / SECOND_NS

    def _correct(self, now_ns: int) -> None:
        """Apply the corrections that are due."""
        while self._corrections and self._corrections[0][0] <= now_ns:
            due_ns, _, admitted_ns, resource, unused = heapq.heappop(self._corrections)
            for counters in self._counter_sets():
                if unused > 0:
                    counters[resource].give_back(due_ns, admitted_ns, unused)
                else:
                    counters[resource].count(due_ns, -unused)

    def _counter_sets(self) -> tuple[dict[Resource, ServerCounter], ...]:
        if self._reported_counters is self._enforced_counters:
            return (self._enforced_counters,)
        return self._enforced_counters, self._reported_counters

    def _throttle(
        self, full: list[Resource], now_ns: int, costs: dict[Resource, int], is_other_client: bool
    ) -> LimitDecision:
        if self.count_throttled:
            for counters in self._counter_sets():
                if "requests" in counters:
                    counters["requests"].count_throttled(now_ns)
        waits = {name: counter.ns_until_fits(now_ns, costs[name]) for name, counter in self._enforced_counters.items()}
        # A limit that the request can never fit is named first; otherwise the first full one.
        resource = next((name for name in full if waits[name] is None), full[0])
        if not is_other_client:
            self.log.throttled[resource] += 1
        counter = self._enforced_counters[resource]
        return LimitDecision(
            is_admitted=False,
            resource=resource,
            limit=counter.limit,
            used=counter.limit - counter.remaining(now_ns),
            requested=costs[resource],
            retry_after_s=None if waits[resource] is None else max(wait or 0 for wait in waits.values()) / SECOND_NS,
        )


def _earliest_ns(counters: dict[Resource, ServerCounter], now_ns: int, costs: dict[Resource, int]) -> int:
    """The first time from now at which the costs fit all counters. Waiting never makes a cost fit less."""
    for resource, counter in counters.items():
        wait = counter.ns_until_fits(now_ns, costs[resource])
        if wait is None:
            raise ValueError(f"a request of {costs[resource]} {resource} exceeds the limit of {counter.limit}")
        now_ns += wait
    return now_ns


def _ns(at: float) -> int:
    return round(at * SECOND_NS)


_ADMITTED = LimitDecision(is_admitted=True)
_COUNTER_OF: dict[LimiterKind, Callable[[int], ServerCounter]] = {
    "sliding": SlidingWindowCounter,
    "minute": lambda limit: TokenBucketCounter(limit, MINUTE_NS),
    "second": lambda limit: TokenBucketCounter(limit, SECOND_NS),
    "quantised": lambda limit: TokenBucketCounter(limit, SECOND_NS),
    "silent": SlidingWindowCounter,
}
