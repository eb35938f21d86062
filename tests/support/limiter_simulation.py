"""Simulates a RateLimiter and a server on the virtual clock. Requests count at their arrival; the network has jitter.

The server, not the client, reports what was throttled, what was used, and how long it would have taken at best.
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
"""What limits the run: requests; tokens, with jobs of 60 to 240; or tokens, where one job in a hundred takes an
eighth to half of a minute's limit."""

ServerChanges = Sequence[tuple[float, Callable[[ServerRateLimiter], None]]]
"""When to change the server, and how."""

HeaderRewrite = Callable[[float, dict[str, str]], dict[str, str]]
"""Takes the time and the headers of a response, and returns the headers that the client sees."""

MEAN_TOKENS = 150
"""Mean tokens of a usual job."""

JITTER_S = 0.1
THROTTLED_LATENCY_S = 0.05
"""A 429 needs no model and comes quickly."""

MAX_DURATION_S = 40_000.0


def request_size(tokens: int = 1, model: str = "m", path: str = "/v1/chat/completions") -> RequestSize:
    return RequestSize(path=path, model=model, prompt_tokens=0, prompt_chars=0, max_tokens=tokens)


def job_tokens(mode: Mode, rate: int, count: int, seed: int = 7) -> list[int]:
    """The tokens of each job. ``rate``: usual jobs a minute."""
    rng, limit = Random(seed), rate * MEAN_TOKENS
    if mode == "rpm":
        return [1] * count
    usual = [rng.randint(60, 240) for _ in range(count)]
    if mode == "tpm":
        return usual
    return [rng.randint(limit // 8, limit // 2) if rng.random() < 0.01 else tokens for tokens in usual]


def server_limits(mode: Mode, rate: int) -> tuple[int | None, int | None]:
    return (rate, None) if mode == "rpm" else (None, rate * MEAN_TOKENS)


@dataclass(kw_only=True)
class Simulation:
    """One run of jobs. ``rpm`` and ``tpm`` are the server's limits."""

    rpm: int | None
    tpm: int | None
    kind: LimiterKind = "sliding"
    latency_s: float = 0.2
    """From the arrival of a request to the headers of its response, plus or minus a quarter."""
    dialect: Dialect = "openai"
    settings: LimitSettings | None = None
    """None: the server's limits are configured."""
    concurrency: int = 100_000
    seed: int = 1
    count_throttled: bool = True
    slow_429s: bool = False
    """Whether a 429 takes as long as any response."""
    token_ratio: Callable[[Random], float] | None = None
    """Tokens that the server counts for each token that the limiter expects."""
    other_client: Iterable[tuple[float, int]] = ()
    """When another client of the same key sends requests, and their tokens."""
    server_changes: ServerChanges = ()
    server_clock: Callable[[float], float] = lambda at: at
    """The server's time at a time of the loop, whose clock may stand still while the machine sleeps."""
    rewrite_headers: HeaderRewrite = lambda at, headers: headers
    random_429_share: float | Callable[[float], float] = 0.0
    """The share of requests that get a 429 at random, without rate-limit headers; or its course in time."""
    network_delay_s: Callable[[Random], float] = lambda rng: rng.uniform(0, JITTER_S)
    """How long a request takes to the server."""
    rewrite_retry_after: Callable[[float | None], float | None] = lambda retry_after_s: retry_after_s
    """Takes the wait of a 429 and returns the one that the client sees; None: there is none."""
    random_429s: int = 0
    events: list[RunEvent] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    """The tokens of each attempt, in order."""

    def __post_init__(self) -> None:
        self.server = ServerRateLimiter(self.rpm, self.tpm, kind=self.kind, count_throttled=self.count_throttled)
        self.limiter: RateLimiter

    @property
    def throttled(self) -> int:
        return sum(self.server.log.throttled.values())

    @property
    def attempts(self) -> int:
        return len(self.sent)

    @property
    def last_s(self) -> float:
        return self.server.log.last_at

    def run(self, costs: Sequence[int]) -> Simulation:
        run(self._run(costs))
        assert self.server.log.admitted == len(costs)
        return self

    async def _run(self, costs: Sequence[int]) -> None:
        self._rng = Random(self.seed)
        self._loop = asyncio.get_running_loop()
        self._jobs_left = len(costs)
        self._done = self._loop.create_future()
        self._throttled_jobs: asyncio.Queue[int] = asyncio.Queue()
        settings = self.settings or LimitSettings(default=RateLimits(rpm=self.rpm, tpm=self.tpm))
        self.limiter = RateLimiter(settings, emit=self.events.append, concurrency=self.concurrency)
        for at, change in self.server_changes:
            self._loop.call_at(at, change, self.server)
        tasks = [
            asyncio.create_task(work)
            for work in (self._send_jobs(costs), self._send_retries(), self._send_from_other_client())
        ]
        try:
            await asyncio.wait_for(self._done, MAX_DURATION_S)
        finally:
            for task in tasks:
                task.cancel()

    async def _send_jobs(self, costs: Sequence[int]) -> None:
        for tokens in costs:
            self._send(await self.limiter.acquire(request_size(tokens), is_retry=False), tokens)

    async def _send_retries(self) -> None:
        while True:
            tokens = await self._throttled_jobs.get()
            self._send(await self.limiter.acquire(request_size(tokens), is_retry=True), tokens)

    async def _send_from_other_client(self) -> None:
        for at, tokens in self.other_client:
            await asyncio.sleep(max(0.0, at - self._loop.time()))
            self.server.admit(self._loop.time(), tokens, is_other_client=True)

    def _send(self, permit: Permit, tokens: int) -> None:
        self.sent.append(tokens)
        permit.sent(self._loop.time())
        self._loop.call_later(self.network_delay_s(self._rng), self._arrive, permit, tokens)

    def _arrive(self, permit: Permit, tokens: int) -> None:
        now = self.server_clock(self._loop.time())
        share = self.random_429_share
        if self._rng.random() < (share if isinstance(share, float) else share(now)):
            self.random_429s += 1
            self._loop.call_later(THROTTLED_LATENCY_S, self._respond, permit, tokens, False, None, {})
            return
        counted = tokens if self.token_ratio is None else max(1, int(tokens * self.token_ratio(self._rng)))
        decision = self.server.admit(now, counted)
        headers = self.rewrite_headers(now, self.server.headers(now, self.dialect))
        latency_s = self.latency_s * self._rng.uniform(0.75, 1.25)
        if not decision.is_admitted and not self.slow_429s:
            latency_s = THROTTLED_LATENCY_S
        retry_after_s = self.rewrite_retry_after(decision.retry_after_s)
        self._loop.call_later(latency_s, self._respond, permit, tokens, decision.is_admitted, retry_after_s, headers)

    def _respond(
        self, permit: Permit, tokens: int, is_accepted: bool, retry_after_s: float | None, headers: dict[str, str]
    ) -> None:
        now = self._loop.time()
        if is_accepted:
            permit.responded(200, headers, now)
            permit.settled(Usage(prompt_tokens=0, completion_tokens=tokens), now)
            self._jobs_left -= 1
        else:
            permit.throttled(429, headers, retry_after_s, now)
            self._throttled_jobs.put_nowait(tokens)
        permit.release()
        if not self._jobs_left and not self._done.done():
            self._done.set_result(None)


def even_traffic(per_minute: float, from_s: float, to_s: float, tokens: int = 1) -> list[tuple[float, int]]:
    """Another client that sends at even intervals: times and tokens."""
    count = int((to_s - from_s) * per_minute / 60)
    return [(from_s + n * 60 / per_minute, tokens) for n in range(count)]


def random_traffic(per_minute: float, to_s: float, seed: int, tokens: int = 1) -> list[tuple[float, int]]:
    """Another client that sends at random intervals: times and tokens."""
    rng, at, found = Random(seed), 0.0, []
    while at < to_s:
        at += rng.expovariate(per_minute / 60)
        found.append((at, tokens))
    return found
