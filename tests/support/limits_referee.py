"""One meter in front of the referee, as values only: no loop, no gate. Whatever hypothesis draws is played in time."""

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

PATIENCE_S = 7 * 3600.0
"""The slowest pace there is lets one request of a whole minute through in so long."""


class Ask(NamedTuple):
    """A request: what it costs, how long after the one before it is wanted, how late it arrives, how late it is
    answered."""

    cost: int
    pause_s: float
    way_s: float
    latency_s: float


@dataclass
class Play:
    """``limit`` is configured unless ``learn``; costs are requests where ``by_requests``, else tokens."""

    kind: LimiterKind
    limit: int
    by_requests: bool = True
    dialect: Dialect = "openai"
    now: float = 0.0
    refused: int = 0
    admitted: int = 0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.meter = ResourceLimiter(self.limit, tolerance=0.0 if self.by_requests else 0.3)
        rpm, tpm = (self.limit, None) if self.by_requests else (None, self.limit)
        self.referee = ServerRateLimiter(rpm, tpm, kind=self.kind)
        self._numbers = count()

    def run(self, asks: Iterable[Ask]) -> Play:
        for ask in asks:
            self._go_on(self.now + ask.pause_s)
            self._admit(ask)
        self._go_on(inf)
        return self

    def _admit(self, ask: Ask) -> None:
        began, looks = self.now, 0
        while (at := self.meter.earliest(ask.cost, self.now)) > self.now + 1e-6:
            looks += 1
            assert looks < 10_000, "it asks again and again"
            assert at == inf or isfinite(at)
            assert self.now < began + PATIENCE_S, "it waits for good"
            assert at < inf or self._events, "it waits for what never comes"
            self._go_on(min(at, self._events[0][0] if self._events else inf))
        self.meter.on_grant(ask.cost, self.now)
        self.meter.on_sent(ask.cost, self.now)
        sent_at = self.now
        self._at(sent_at + ask.way_s, lambda: self._arrive(ask, sent_at))

    def _arrive(self, ask: Ask, sent_at: float) -> None:
        verdict = self.referee.admit(self.now, ask.cost)
        headers = self.referee.headers(self.now, self.dialect)
        self.refused += not verdict.is_admitted
        self.admitted += verdict.is_admitted
        self._at(self.now + ask.latency_s, lambda: self._answer(ask, sent_at, headers, verdict.is_admitted))

    def _answer(self, ask: Ask, sent_at: float, headers: dict[str, str], ok: bool) -> None:
        said = parse_rate_limit_headers(headers).get("requests" if self.by_requests else "tokens")
        if said is None:
            self.meter.on_headers_absent()
        else:
            self.meter.on_headers(said, sent_at, ask.cost, self.now, refused=not ok)
        if not ok:
            self.meter.on_throttled(sent_at, self.now, had_room=said is not None and (said.remaining or 0) >= ask.cost)
        self.meter.on_response(sent_at)

    def _at(self, at: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), what))

    def _go_on(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            at, _, what = heapq.heappop(self._events)
            self.now = at
            what()
        self.now = max(self.now, until) if until < inf else self.now
