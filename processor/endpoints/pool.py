"""Endpoints, and the pool that picks one for each attempt.

The scheduler asks the pool for a permit and learns from ``permit.endpoint`` where the request goes. All that is known
of an endpoint belongs to it: its address and key, its rate limiter, its health. A pool holds one endpoint at present;
what several of them need is decided here (``_pick``, ``is_closed_for``, ``undecided``), and nowhere in the scheduler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet

from processor.core.models import Job, RequestSize, Target
from processor.core.urls import endpoint_address, with_model
from processor.health.causes import Cause
from processor.health.endpoint_health import EndpointHealth
from processor.health.parked_jobs import ParkedJob
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

    def closed_reason(self, job: Job) -> str | None:
        """Return why nothing like this job is sent any more in this run; None if it is."""
        health = self.health
        return health.closed_reason(job.model, self.limiter.group_name(job)) if health.has_closed else None

    def address_of(self, path: str, model: str) -> str:
        """Return the address (scheme, host and path) that requests for an API path and a model are sent to."""
        address = self._addresses.get(path)
        if address is None:
            address = self._addresses[path] = endpoint_address(self.target.base_url, path)
        return with_model(address, model)


class EndpointClosed(Exception):
    """Nothing more is sent in this run to the model, or for the limit group, of this job."""


class EndpointPermit(Permit):
    """A permit for one request, and the endpoint that it is for. Takes the place of the limiter's permit."""

    __slots__ = ("_has_canary_turn", "_is_probe", "endpoint")

    def __init__(self, endpoint: Endpoint, permit: Permit, *, is_probe: bool, has_canary_turn: bool = False) -> None:
        super().__init__(permit._group, permit._size, permit._reservation, permit._on_release)
        self.endpoint = endpoint
        self._is_probe = is_probe
        self._has_canary_turn = has_canary_turn

    def release(self) -> None:
        """Give the in-flight slot back, and the turn to probe or to be the canary. To be called once, at the end."""
        super().release()
        if self._is_probe:
            self.endpoint.health.end_probe()
        if self._has_canary_turn:
            self.endpoint.health.canary.release()


class EndpointPool:
    """The endpoints of a run."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoints = (endpoint,)

    # ------------------------------------------------------------ where and when a request may be sent

    async def acquire(
        self, job: Job, size: RequestSize, *, is_retry: bool, exclude: AbstractSet[Endpoint] = frozenset()
    ) -> EndpointPermit:
        """Pick an endpoint outside ``exclude`` and wait until a request of this size may be sent to it.

        While the endpoint is down, one request at a time is let through, as a probe; and one at a time, as the canary,
        until it has answered something that is understood. Raises TooLarge at once if the request exceeds a whole
        minute's limit, and EndpointClosed if no job like this one is sent any more. If cancelled, nothing has been
        taken.
        """
        endpoint = self._pick(job, exclude)
        health = endpoint.health
        while True:
            self._raise_if_closed(endpoint, job)
            if health.is_down and await health.wait_to_probe():
                return await self._acquire_probe(endpoint, job, size, is_retry=is_retry)
            if not health.canary.is_cleared:
                permit = await self._acquire_in_turn(endpoint, job, size, is_retry=is_retry)
            else:
                inner = await endpoint.limiter.acquire(size, is_retry=is_retry)
                permit = EndpointPermit(endpoint, inner, is_probe=False)
            if not health.is_down and endpoint.closed_reason(job) is None:
                return permit
            permit.release()
            is_retry = True

    async def _acquire_in_turn(
        self, endpoint: Endpoint, job: Job, size: RequestSize, *, is_retry: bool
    ) -> EndpointPermit:
        """Wait for the turn to be the canary. A limit group that must wait lets the jobs of others go first."""
        canary = endpoint.health.canary
        while True:
            await canary.acquire()
            wait_s = 0.0 if canary.is_cleared else endpoint.limiter.cool_down_s(job)
            if not wait_s:
                break
            canary.release()
            await asyncio.sleep(wait_s)
        try:
            permit = await endpoint.limiter.acquire(size, is_retry=is_retry)
        except BaseException:
            canary.release()
            raise
        return EndpointPermit(endpoint, permit, is_probe=False, has_canary_turn=True)

    async def _acquire_probe(
        self, endpoint: Endpoint, job: Job, size: RequestSize, *, is_retry: bool
    ) -> EndpointPermit:
        try:
            self._raise_if_closed(endpoint, job)
            permit = await endpoint.limiter.acquire(size, is_retry=is_retry)
        except (TooLarge, EndpointClosed, asyncio.CancelledError):
            endpoint.health.end_probe()
            raise
        return EndpointPermit(endpoint, permit, is_probe=True)

    def _pick(self, job: Job, exclude: AbstractSet[Endpoint]) -> Endpoint:
        for endpoint in self._endpoints:
            if endpoint not in exclude:
                return endpoint
        raise ValueError(f"{job.custom_id}: no endpoint is left")

    def _raise_if_closed(self, endpoint: Endpoint, job: Job) -> None:
        if (reason := endpoint.closed_reason(job)) is not None:
            raise EndpointClosed(reason)

    # ------------------------------------------------------------ may any job still succeed?

    def is_closed_for(self, job: Job) -> bool:
        """Whether no endpoint takes this job any more in this run."""
        return all(endpoint.closed_reason(job) is not None for endpoint in self._endpoints)

    @property
    def closed_reasons(self) -> list[str]:
        """Why some jobs were left without a row. For the user."""
        return [reason for endpoint in self._endpoints for reason in endpoint.health.closed_reasons]

    def count_parked(self) -> int:
        return sum(len(endpoint.health.parked) for endpoint in self._endpoints)

    def undecided(self) -> list[tuple[Endpoint, Cause, list[ParkedJob]]]:
        """All parked jobs, by endpoint and by what they met."""
        return [
            (endpoint, cause, parked)
            for endpoint in self._endpoints
            for cause, parked in endpoint.health.parked.undecided()
        ]

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
