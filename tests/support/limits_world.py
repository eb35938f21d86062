"""The gate in front of a referee, on the virtual clock: a server that counts at arrival, and a network that jitters.

The referee, not the client, says what was refused, what was used, and what the least time would have been.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from processor.core.events import RunEvent
from processor.core.models import RequestSize, Usage
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.permit import Permit
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.simulator.rate_limit_headers import Dialect
from processor.simulator.rate_limiter import LimiterKind, ServerRateLimiter
from processor.simulator.virtual_clock import run

Mode = Literal["rpm", "tpm", "huge"]
"""Bound by requests; by tokens, in jobs of 60 to 240; by tokens, every hundredth job an eighth to half a minute's."""

Script = Sequence[tuple[float, Callable[[ServerRateLimiter], None]]]
"""What happens to the server, and when."""

Says = Callable[[float, dict[str, str]], dict[str, str]]
"""What becomes of the headers of a response that starts then."""

TOKENS = 150
"""Of a usual job."""

JITTER_S = 0.1
REFUSED_S = 0.05
"""A refusal needs no model: it comes quickly."""

PATIENCE_S = 40_000.0


def demand(tokens: int = 1, model: str = "m", path: str = "/v1/chat/completions") -> RequestSize:
    return RequestSize(path=path, model=model, prompt_tokens=0, prompt_chars=0, max_tokens=tokens)


def jobs(mode: Mode, rate: int, count: int, seed: int = 7) -> list[int]:
    """Their tokens. ``rate``: usual jobs a minute."""
    rng, limit = Random(seed), rate * TOKENS
    if mode == "rpm":
        return [1] * count
    usual = [rng.randint(60, 240) for _ in range(count)]
    if mode == "tpm":
        return usual
    return [rng.randint(limit // 8, limit // 2) if rng.random() < 0.01 else tokens for tokens in usual]


def limits(mode: Mode, rate: int) -> tuple[int | None, int | None]:
    return (rate, None) if mode == "rpm" else (None, rate * TOKENS)


@dataclass(kw_only=True)
class World:
    """One run of jobs through a gate to a server. ``rpm`` and ``tpm`` are the server's limits."""

    rpm: int | None
    tpm: int | None
    kind: LimiterKind = "sliding"
    latency_s: float = 0.2
    """From arrival to the start of the response, a quarter more or less."""
    dialect: Dialect = "openai"
    settings: LimitSettings | None = None
    """None: the server's limits are configured."""
    concurrency: int = 100_000
    seed: int = 1
    count_throttled: bool = True
    slow_refusals: bool = False
    ratio: Callable[[Random], float] | None = None
    """What the server charges for one of our tokens."""
    others: Iterable[tuple[float, int]] = ()
    """When another program sends a request with the same key, and its tokens."""
    script: Script = ()
    clock: Callable[[float], float] = lambda at: at
    """The server's time by ours, which may stand still while this machine sleeps."""
    says: Says = lambda at, headers: headers
    chance: float = 0.0
    """The share of requests that are refused for no reason, and without a word about limits."""
    way: Callable[[Random], float] = lambda rng: rng.uniform(0, JITTER_S)
    """How long a request is on its way to the server, in seconds."""
    waits: Callable[[float | None], float | None] = lambda wait_s: wait_s
    """What becomes of a refusal's Retry-After on its way; None: there is none."""
    by_chance: int = 0
    events: list[RunEvent] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    """The tokens of each attempt, in their order."""

    def __post_init__(self) -> None:
        self.referee = ServerRateLimiter(self.rpm, self.tpm, kind=self.kind, count_throttled=self.count_throttled)
        self.gate: RateLimiter

    @property
    def refused(self) -> int:
        return sum(self.referee.log.throttled.values())

    @property
    def attempts(self) -> int:
        return len(self.sent)

    @property
    def last_s(self) -> float:
        return self.referee.log.last_at

    def run(self, costs: Sequence[int]) -> World:
        run(self._run(costs))
        assert self.referee.log.admitted == len(costs)
        return self

    async def _run(self, costs: Sequence[int]) -> None:
        self._rng = Random(self.seed)
        self._loop = asyncio.get_running_loop()
        self._left = len(costs)
        self._done = self._loop.create_future()
        self._again: asyncio.Queue[int] = asyncio.Queue()
        settings = self.settings or LimitSettings(default=RateLimits(rpm=self.rpm, tpm=self.tpm))
        self.gate = RateLimiter(settings, emit=self.events.append, concurrency=self.concurrency)
        for at, change in self.script:
            self._loop.call_at(at, change, self.referee)
        tasks = [asyncio.create_task(work) for work in (self._first(costs), self._retries(), self._company())]
        try:
            await asyncio.wait_for(self._done, PATIENCE_S)
        finally:
            for task in tasks:
                task.cancel()

    async def _first(self, costs: Sequence[int]) -> None:
        for tokens in costs:
            self._send(await self.gate.acquire(demand(tokens), is_retry=False), tokens)

    async def _retries(self) -> None:
        while True:
            tokens = await self._again.get()
            self._send(await self.gate.acquire(demand(tokens), is_retry=True), tokens)

    async def _company(self) -> None:
        for at, tokens in self.others:
            await asyncio.sleep(max(0.0, at - self._loop.time()))
            self.referee.admit(self._loop.time(), tokens, is_other_client=True)

    def _send(self, permit: Permit, tokens: int) -> None:
        self.sent.append(tokens)
        permit.sent(self._loop.time())
        self._loop.call_later(self.way(self._rng), self._arrive, permit, tokens)

    def _arrive(self, permit: Permit, tokens: int) -> None:
        now = self.clock(self._loop.time())
        if self._rng.random() < self.chance:
            self.by_chance += 1
            self._loop.call_later(REFUSED_S, self._answer, permit, tokens, False, None, {})
            return
        charged = tokens if self.ratio is None else max(1, int(tokens * self.ratio(self._rng)))
        verdict = self.referee.admit(now, charged)
        headers = self.says(now, self.referee.headers(now, self.dialect))
        latency_s = self.latency_s * self._rng.uniform(0.75, 1.25)
        if not verdict.is_admitted and not self.slow_refusals:
            latency_s = REFUSED_S
        wait_s = self.waits(verdict.retry_after_s)
        self._loop.call_later(latency_s, self._answer, permit, tokens, verdict.is_admitted, wait_s, headers)

    def _answer(
        self, permit: Permit, tokens: int, ok: bool, retry_after_s: float | None, headers: dict[str, str]
    ) -> None:
        now = self._loop.time()
        if ok:
            permit.responded(200, headers, now)
            permit.settled(Usage(prompt_tokens=0, completion_tokens=tokens), now)
            self._left -= 1
        else:
            permit.throttled(429, headers, retry_after_s, now)
            self._again.put_nowait(tokens)
        permit.release()
        if not self._left and not self._done.done():
            self._done.set_result(None)


def evenly(per_minute: float, from_s: float, to_s: float, tokens: int = 1) -> list[tuple[float, int]]:
    """Another program, that sends evenly."""
    count = int((to_s - from_s) * per_minute / 60)
    return [(from_s + n * 60 / per_minute, tokens) for n in range(count)]


def at_random(per_minute: float, to_s: float, seed: int, tokens: int = 1) -> list[tuple[float, int]]:
    rng, at, found = Random(seed), 0.0, []
    while at < to_s:
        at += rng.expovariate(per_minute / 60)
        found.append((at, tokens))
    return found
