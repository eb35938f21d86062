"""Runs with several endpoints on a virtual clock: one simulated provider for each, wired as by the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from processor.app.endpoint_factory import endpoint_pool
from processor.app.plan import Plan
from processor.config.endpoint_resolution import resolve_endpoints
from processor.config.endpoint_settings import EndpointSettings
from processor.config.settings import Settings, Waiting
from processor.core.events import RequestEvent, RequestListener, Sent, Transport
from processor.core.models import Job, Reply, Target, Timeouts
from processor.endpoints.pool import EndpointPool
from processor.ratelimit.settings import LimitSettings
from processor.retry.policy import RetryPolicy
from processor.simulator.memory_transport import MemoryTransport
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import SimulatorSettings
from tests.support.scheduler_world import FAST_PROVIDER, KEY, RunRecord, World


def table(name: str, **more: Any) -> EndpointSettings:
    """An endpoint of this name, with a key of its own unless ``api_key_env`` is None."""
    return EndpointSettings(**{"name": name, "base_url": f"https://{name}.test/v1", "api_key_env": "KEY"} | more)


class SeveralWorld(World):
    """What outlives a run with several endpoints: the disk, a provider for each endpoint, and the time."""

    def __init__(
        self, providers: Mapping[str, SimulatorSettings], *, one_account: Sequence[str] = (), **settings: Any
    ) -> None:
        """``providers``: by the name of the endpoint. ``one_account``: endpoints that are addresses of one provider,
        that of the first. ``settings``: of the run; ``endpoints``: else one each."""
        super().__init__(FAST_PROVIDER)
        settings.setdefault("endpoints", tuple(table(name) for name in providers))
        self.settings = Settings(**settings)
        self.logs: dict[str, list[dict[str, Any]]] = {name: [] for name in providers}
        self.providers = {
            name: SimulatedProvider(replace(one, track_identities=True), on_request=partial(self._log, name))
            for name, one in providers.items()
        }
        if one_account:
            self.providers |= dict.fromkeys(one_account, self.providers[one_account[0]])
        self.sent_to: list[tuple[float, str, str]] = []
        """Every request: seconds since the run began, the endpoint's name, and the model sent."""

    def _log(self, name: str, entry: dict[str, Any]) -> None:
        self.log.append(entry)
        self.logs[name].append(entry)

    def statuses(self, name: str) -> set[int]:
        return {entry["status"] for entry in self.logs[name]}

    def answered(self, name: str) -> int:
        return sum(entry["status"] == 200 for entry in self.logs[name])

    def _pool(
        self, run: RunRecord, policy: RetryPolicy, limits: LimitSettings, max_outage_s: float, concurrency: int
    ) -> EndpointPool:
        waiting = Waiting(
            backoff_min_s=policy.backoff.min_s,
            backoff_max_s=policy.backoff.max_s,
            max_wait_s=policy.max_wait_s,
            max_outage_s=max_outage_s,
        )
        settings = replace(self.settings, waiting=waiting, max_attempts=policy.max_attempts)
        accesses = resolve_endpoints(settings, {"KEY": KEY})
        plan = Plan(jobs="jobs.jsonl", out="results.jsonl", settings=settings)
        targets = [access.target for access in accesses]
        return endpoint_pool(plan, accesses, targets, run.events.append, concurrency=concurrency, budget=run.budget)

    def _transport(self, timeouts: Timeouts | None) -> Transport:
        transports = {
            f"https://{name}.test/v1": MemoryTransport(
                provider, seed=self.runs, clock_offset_s=self.now_s, timeouts=timeouts
            )
            for name, provider in self.providers.items()
        }

        async def send(job: Job, target: Target, on_event: RequestListener) -> Reply:
            name = target.base_url.removeprefix("https://").removesuffix(".test/v1")

            def observe(event: RequestEvent) -> None:
                if isinstance(event, Sent):
                    self.sent_to.append((asyncio.get_running_loop().time(), name, job.model))
                on_event(event)

            return await transports[target.base_url](job, target, observe)

        return send
