"""The endpoints of a run, from which one is picked for each attempt.

The scheduler asks the pool for a permit and learns from ``permit.endpoint`` where the request goes. All that is known
of an endpoint belongs to it: its address and key, its rate limiter, its health. The jobs of a run with one endpoint
wait at its rate limiter; those of a run with several, or with a budget, wait in the queues of the ``Dispatcher``, and
``Failover`` decides what follows where one of several fails a job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from processor.core.errors import RequestError
from processor.core.models import Job, RequestSize
from processor.endpoints.budget_gate import BudgetGate
from processor.endpoints.endpoint import Endpoint, EndpointClosed, EndpointPermit
from processor.endpoints.failover import Exclusions, Failover
from processor.health.causes import Cause
from processor.health.parked_jobs import ParkedJob
from processor.ratelimit.snapshot import LimiterSnapshot
from processor.retry.policy import LeaveJob, Retry, Verdict

if TYPE_CHECKING:
    from processor.endpoints.dispatcher import Dispatcher


class EndpointPool:
    """The endpoints of a run. With several of them a dispatcher hands out the jobs."""

    def __init__(
        self,
        *endpoints: Endpoint,
        dispatcher: Dispatcher | None = None,
        failover: Failover | None = None,
        budget: BudgetGate | None = None,
    ) -> None:
        """``budget`` needs a dispatcher that has it, too, or an endpoint whose limiter keeps it."""
        self.budget = budget
        self._endpoints = endpoints
        self._dispatcher = dispatcher
        self._failover = failover

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._endpoints)

    async def load_prices(self, job: Job) -> None:
        """Wait until the job's prices have been looked up, in a run with a budget."""
        if self.budget is not None:
            await self.budget.load_prices(self._endpoints, job)

    @property
    def counts_characters(self) -> bool:
        """Whether one of their limiters needs ``RequestSize.prompt_chars``."""
        return any(endpoint.limiter.counts_characters for endpoint in self._endpoints)

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
        if self._dispatcher is not None:
            return await self._dispatcher.acquire(job, size, is_retry=is_retry, exclude=exclude)
        endpoint = self._pick(job, exclude)
        health = endpoint.health
        while True:
            self._raise_if_closed(endpoint, job)
            if health.is_down and await health.probe_turn.wait():
                return await self._acquire_probe(endpoint, job, size, is_retry=is_retry)
            if not health.canary.is_over:
                permit = await self._acquire_in_turn(endpoint, job, size, is_retry=is_retry)
            else:
                inner = await endpoint.limiter.acquire(size, is_retry=is_retry)
                permit = EndpointPermit(endpoint, inner, job, is_probe=False)
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
        return EndpointPermit(endpoint, permit, job, is_probe=False, has_canary_turn=True)

    async def _acquire_probe(
        self, endpoint: Endpoint, job: Job, size: RequestSize, *, is_retry: bool
    ) -> EndpointPermit:
        try:
            self._raise_if_closed(endpoint, job)
            permit = await endpoint.limiter.acquire(size, is_retry=is_retry)
        except BaseException:
            endpoint.health.probe_turn.end()
            raise
        return EndpointPermit(endpoint, permit, job, is_probe=True)

    def _pick(self, job: Job, exclude: AbstractSet[Endpoint]) -> Endpoint:
        for endpoint in self._endpoints:
            if endpoint not in exclude:
                return endpoint
        raise ValueError(f"{job.custom_id}: no endpoint is left")

    def _raise_if_closed(self, endpoint: Endpoint, job: Job) -> None:
        if (reason := endpoint.closed_reason(job)) is not None:
            raise EndpointClosed(reason)

    # ------------------------------------------------------------ what follows from a failure

    def verdict(
        self,
        endpoint: Endpoint,
        job: Job,
        verdict: Verdict,
        error: RequestError,
        excluded: Exclusions,
        *,
        is_singled_out: bool,
    ) -> Verdict:
        """Return what follows for a job from the verdict at one endpoint. ``excluded``: those that have given it up."""
        if self._failover is None:
            return verdict
        return self._failover.verdict(endpoint, job, verdict, error, excluded, is_singled_out=is_singled_out)

    def leave(self, endpoint: Endpoint, job: Job, excluded: Exclusions) -> Retry | LeaveJob:
        """An endpoint does not answer the job in this run: return whether another one is asked."""
        return LeaveJob() if self._failover is None else self._failover.leave(endpoint, job, excluded)

    # ------------------------------------------------------------ may any job still succeed?

    def is_closed_for(self, job: Job, excluded: AbstractSet[Endpoint] = frozenset()) -> bool:
        """Whether no endpoint takes this job any more in this run, beside those that have given it up."""
        if self._failover is not None:
            return not self._failover.is_open(job, excluded)
        for endpoint in self._endpoints:  # noqa: SIM110 (a generator costs more, for each job)
            if endpoint.closed_reason(job) is None:
                return False
        return True

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
        if self._dispatcher is not None:
            return self._dispatcher.next_start_at()
        times = (
            endpoint.health.outages.next_probe_at if endpoint.health.is_down else endpoint.limiter.next_start_at()
            for endpoint in self._endpoints
        )
        return min((at for at in times if at is not None), default=None)

    def snapshots(self) -> list[LimiterSnapshot]:
        """The state of each endpoint's rate limiter, to be shown to the user."""
        return [endpoint.limiter.snapshot() for endpoint in self._endpoints]
