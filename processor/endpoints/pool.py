"""Endpoints, and the pool that picks one for each attempt.

The scheduler asks the pool for a permit and learns from ``permit.endpoint`` where the request goes. All that is known
of an endpoint belongs to it: its address and key, its rate limiter, its health. A pool holds one endpoint at present;
what several of them need is decided here (``_pick``, ``blocked_by``, ``stop_reason``), and nowhere in the scheduler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from processor.core.models import Job, RequestSize, Target
from processor.core.urls import endpoint_address
from processor.health.endpoint_health import EndpointHealth
from processor.ratelimit.limit_group import TooLarge
from processor.ratelimit.limiter import LimiterSnapshot, RateLimiter
from processor.ratelimit.permit import Permit


class Endpoint:
    """An address with its key, its limits and its health."""

    __slots__ = ("_addresses", "health", "limiter", "name", "target")

    def __init__(self, target: Target, limiter: RateLimiter, health: EndpointHealth) -> None:
        self.target = target
        self.limiter = limiter
        self.health = health
        self.name = target.address
        self._addresses: dict[str, str] = {}

    def address_of(self, path: str) -> str:
        """Return the address (scheme, host and path) that requests for an API path are sent to."""
        address = self._addresses.get(path)
        if address is None:
            address = self._addresses[path] = endpoint_address(self.target.base_url, path)
        return address


class EndpointPermit(Permit):
    """A permit for one request, and the endpoint that it is for. Takes the place of the limiter's permit."""

    __slots__ = ("_is_probe", "endpoint")

    def __init__(self, endpoint: Endpoint, permit: Permit, *, is_probe: bool) -> None:
        super().__init__(permit._group, permit._size, permit._reservation, permit._on_release)
        self.endpoint = endpoint
        self._is_probe = is_probe

    def release(self) -> None:
        """Give the in-flight slot back, and the turn to probe. To be called once, at the end."""
        super().release()
        if self._is_probe:
            self.endpoint.health.end_probe()


class EndpointPool:
    """The endpoints of a run."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoints = (endpoint,)

    # ------------------------------------------------------------ where and when a request may be sent

    async def acquire(
        self, job: Job, size: RequestSize, *, is_retry: bool, exclude: AbstractSet[Endpoint] = frozenset()
    ) -> EndpointPermit:
        """Pick an endpoint outside ``exclude`` and wait until a request of this size may be sent to it.

        While the endpoint is down, one request at a time is let through, as a probe. Raises TooLarge at once if the
        request exceeds a whole minute's limit. If cancelled, nothing has been taken.
        """
        endpoint = self._pick(job, exclude)
        health = endpoint.health
        while True:
            if health.is_down and await health.wait_to_probe():
                return await self._acquire_probe(endpoint, size, is_retry=is_retry)
            permit = await endpoint.limiter.acquire(size, is_retry=is_retry)
            if not health.is_down:
                return EndpointPermit(endpoint, permit, is_probe=False)
            permit.release()
            is_retry = True

    async def _acquire_probe(self, endpoint: Endpoint, size: RequestSize, *, is_retry: bool) -> EndpointPermit:
        try:
            permit = await endpoint.limiter.acquire(size, is_retry=is_retry)
        except (TooLarge, asyncio.CancelledError):
            endpoint.health.end_probe()
            raise
        return EndpointPermit(endpoint, permit, is_probe=True)

    def _pick(self, job: Job, exclude: AbstractSet[Endpoint]) -> Endpoint:
        for endpoint in self._endpoints:
            if endpoint not in exclude:
                return endpoint
        raise ValueError(f"{job.custom_id}: no endpoint is left")

    def blocked_by(self, job: Job) -> Endpoint | None:
        """Return the endpoint whose first success this job must await before it is sent; None if it may be sent."""
        for endpoint in self._endpoints:
            if not endpoint.health.parked.blocks(job):
                return None
        return self._endpoints[0]

    # ------------------------------------------------------------ may another job be started, may any succeed?

    async def wait_until_next_may_start(self) -> None:
        """Wait until another job may be started: see ``Canary``. Call it right after a job was started."""
        for endpoint in self._endpoints:
            if not endpoint.health.canary.is_cleared:
                await endpoint.health.canary.wait_until_next_may_start()

    def on_job_finished_or_parked(self) -> None:
        """Let the next job start if this one was the canary."""
        for endpoint in self._endpoints:
            endpoint.health.canary.let_next_try()

    def stop_reason(self, *, stuck_jobs: int, has_earlier_replies: Callable[[], bool]) -> str | None:
        """Return why no endpoint can serve the jobs that remain; None if one may: see ``EndpointHealth``."""
        reason = None
        for endpoint in self._endpoints:
            reason = endpoint.health.parked_jobs_stop_reason(
                stuck_jobs=stuck_jobs, has_earlier_replies=has_earlier_replies
            )
            if reason is None:
                return None
        return reason

    def next_start_at(self) -> float | None:
        """When the next request may start, or the next probe of an endpoint that is down; None where that is open."""
        times = (
            endpoint.health.outages.next_probe_at if endpoint.health.is_down else endpoint.limiter.next_start_at()
            for endpoint in self._endpoints
        )
        return min((at for at in times if at is not None), default=None)

    def snapshots(self) -> list[LimiterSnapshot]:
        """The state of each endpoint's rate limiter, to be shown to the user."""
        return [endpoint.limiter.snapshot() for endpoint in self._endpoints]
