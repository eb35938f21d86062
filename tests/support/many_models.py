"""Simulates one file with jobs of many models, each with a limit of its own at the server, on the virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from processor.core.models import Job, RequestSize, Target, Usage
from processor.endpoints.dispatcher import Dispatcher
from processor.endpoints.endpoint import Endpoint
from processor.endpoints.pool import EndpointPool
from processor.health.endpoint_health import EndpointHealth
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.settings import LimitSettings
from processor.retry.policy import RetryPolicy
from processor.simulator.rate_limiter import LimiterKind, ServerRateLimiter
from processor.simulator.virtual_clock import run
from tests.support.limiter_simulation import JITTER_S, THROTTLED_LATENCY_S, request_size

SLOTS = 100_000


@dataclass(kw_only=True)
class ManyModels:
    """A run of ``minutes`` of work for each model; all jobs wait from the start.

    ``limits``: the kind of each model's limit, and its requests a minute. ``dispatched``: as with several endpoints or
    a budget.
    """

    limits: Mapping[str, tuple[LimiterKind, int]]
    minutes: float
    latency_s: float = 0.5
    dispatched: bool = False

    def __post_init__(self) -> None:
        self.servers = {model: ServerRateLimiter(rpm, None, kind=kind) for model, (kind, rpm) in self.limits.items()}
        self.jobs = {model: int(self.minutes * rpm) for model, (_, rpm) in self.limits.items()}

    def run(self) -> ManyModels:
        run(self._run())
        return self

    def throttled(self, model: str) -> int:
        return sum(self.servers[model].log.throttled.values())

    def last_s(self, model: str) -> float:
        return self.servers[model].log.last_at

    def promised_s(self, model: str) -> float:
        """When the last job of a model is admitted at the latest."""
        return 1.02 * self.servers[model].min_duration_s([1] * self.jobs[model]) + 3 + 1.25 * self.latency_s

    def _pool(self) -> EndpointPool:
        health = EndpointHealth(RetryPolicy(), lambda event: None, endpoint="e", max_outage_s=3600.0)
        health.on_success(0, 0.0, 0.0)
        limiter = RateLimiter(LimitSettings(), emit=lambda event: None, concurrency=SLOTS)
        endpoint = Endpoint(Target(base_url="http://127.0.0.1/v1"), limiter, health)
        if not self.dispatched:
            return EndpointPool(endpoint)
        settings = LimitSettings(first_alone_s=0.0, concurrency_is_fixed=True)
        of_run = RateLimiter(settings, emit=lambda event: None, concurrency=SLOTS)
        return EndpointPool(endpoint, dispatcher=Dispatcher([endpoint], of_run, in_order=True, emit=lambda event: None))

    async def _run(self) -> None:
        self._rng = Random(1)
        pool = self._pool()
        models = [model for model, count in self.jobs.items() for _ in range(count)]
        self._rng.shuffle(models)
        await asyncio.gather(*(self._answer(pool, line, model) for line, model in enumerate(models)))

    async def _answer(self, pool: EndpointPool, line: int, model: str) -> None:
        size = request_size(model=model)
        job = Job(line=line, custom_id=str(line), fingerprint="", path=size.path, model=model, body={"model": model})
        if await self._send(pool, job, size, is_retry=False):
            return
        while not await self._send(pool, job, size, is_retry=True):
            pass

    async def _send(self, pool: EndpointPool, job: Job, size: RequestSize, *, is_retry: bool) -> bool:
        """Send a request. Return whether it was answered."""
        loop, server = asyncio.get_running_loop(), self.servers[job.model]
        permit = await pool.acquire(job, size, is_retry=is_retry)
        permit.sent(loop.time())
        await asyncio.sleep(self._rng.uniform(0, JITTER_S))
        decision = server.admit(loop.time(), 1)
        headers = server.headers(loop.time(), "openai")
        if decision.is_admitted:
            await asyncio.sleep(self.latency_s * self._rng.uniform(0.75, 1.25))
            permit.responded(200, headers, loop.time())
            permit.settled(Usage(prompt_tokens=0, completion_tokens=1), loop.time())
        else:
            await asyncio.sleep(THROTTLED_LATENCY_S)
            permit.throttled(429, headers, decision.retry_after_s, loop.time())
        permit.release()
        return decision.is_admitted
