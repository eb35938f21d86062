"""Simulates one ResourceLimiter and a server, without an event loop: events are played in the order of their times."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from math import inf, isfinite
from typing import NamedTuple

from processor.ratelimit.headers import parse_rate_limit_headers
from processor.ratelimit.resource_limiter import ResourceLimiter
from processor.simulator.rate_limit_headers import Dialect
from processor.simulator.rate_limiter import LimiterKind, ServerRateLimiter

MAX_WAIT_S = 7 * 3600.0
"""The slowest pacing sends a request that costs a whole minute's limit within this time."""


class PlannedRequest(NamedTuple):
    cost: int
    pause_s: float
    """After the request before it was granted."""
    network_delay_s: float
    latency_s: float
    """From its arrival at the server to the headers."""


@dataclass
class ResourceSimulation:
    """``limit`` is configured. Costs are requests where ``by_requests``, else tokens."""

    kind: LimiterKind
    limit: int
    by_requests: bool = True
    dialect: Dialect = "openai"
    now: float = 0.0
    throttled: int = 0
    admitted: int = 0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limiter = ResourceLimiter(self.limit, tolerance=0.0 if self.by_requests else 0.3)
        rpm, tpm = (self.limit, None) if self.by_requests else (None, self.limit)
        self.server = ServerRateLimiter(rpm, tpm, kind=self.kind)
        self._numbers = count()

    def run(self, requests: Iterable[PlannedRequest]) -> ResourceSimulation:
        for request in requests:
            self._advance_to(self.now + request.pause_s)
            self._send(request)
        self._advance_to(inf)
        return self

    def _send(self, request: PlannedRequest) -> None:
        started_at, attempts = self.now, 0
        while (at := self.limiter.earliest(request.cost, self.now)) > self.now + 1e-6:
            attempts += 1
            assert attempts < 10_000, "a request is offered too often"
            assert at == inf or isfinite(at)
            assert self.now < started_at + MAX_WAIT_S, "a request waits forever"
            assert at < inf or self._events, "a request waits for an event that never comes"
            self._advance_to(min(at, self._events[0][0] if self._events else inf))
        self.limiter.on_grant(request.cost, self.now)
        self.limiter.on_sent(request.cost, self.now)
        sent_at = self.now
        self._schedule(sent_at + request.network_delay_s, lambda: self._arrive(request, sent_at))

    def _arrive(self, request: PlannedRequest, sent_at: float) -> None:
        decision = self.server.admit(self.now, request.cost)
        headers = self.server.headers(self.now, self.dialect)
        self.throttled += not decision.is_admitted
        self.admitted += decision.is_admitted
        self._schedule(
            self.now + request.latency_s, lambda: self._respond(request, sent_at, headers, decision.is_admitted)
        )

    def _respond(self, request: PlannedRequest, sent_at: float, headers: dict[str, str], is_admitted: bool) -> None:
        reported = parse_rate_limit_headers(headers).get("requests" if self.by_requests else "tokens")
        if reported is None:
            self.limiter.on_headers_absent()
        else:
            self.limiter.on_headers(reported, sent_at, request.cost, self.now, refused=not is_admitted)
        if not is_admitted:
            self.limiter.on_throttled(
                sent_at, self.now, had_room=reported is not None and (reported.remaining or 0) >= request.cost
            )
        self.limiter.on_response(request.cost, sent_at, self.now)

    def _schedule(self, at: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), event))

    def _advance_to(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            at, _, event = heapq.heappop(self._events)
            self.now = at
            event()
        self.now = max(self.now, until) if until < inf else self.now
