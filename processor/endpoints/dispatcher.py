"""Hands the jobs that wait to those of several endpoints that have room: admission where there is more than one, and
where the run has a budget.

    acquire ─► queue (one for all jobs that share limits everywhere) ─► Admission ─► a permit at one endpoint
                          ▲                                                │
                          └── the lists in which the queue waits ◄─────────┘
                                 ▲
                                 └── any change: sent, responded, settled, release, ...

The queue is here and not at the endpoints, so that a job belongs to none while it waits: the first endpoint that has
room takes it. What has changed wakes the list of those that wait for it, and only the first queue in that list is
looked at; the next one where that has been served, or waits for something else. So the cost of a job does not grow with
the number of limit groups, endpoints or waiting jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from processor.core.events import Listener
from processor.core.models import Job, RequestSize
from processor.endpoints.admission import Admission
from processor.endpoints.budget_gate import BudgetExhausted, BudgetGate, UnknownCost
from processor.endpoints.destinations import Destinations
from processor.endpoints.endpoint import Endpoint, EndpointClosed, EndpointPermit
from processor.endpoints.job_queue import JobQueue, WaitingList, WaitingRequest
from processor.ratelimit.bottleneck import BottleneckReporter
from processor.ratelimit.limit_group import TooLarge
from processor.ratelimit.limiter import RateLimiter


class Dispatcher:
    """Admission to several endpoints. ``run_limiter`` holds the limits of the whole run.

    ``in_order``: an endpoint is used only while those before it have no room; else the one that is used least, by its
    weight.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        run_limiter: RateLimiter,
        *,
        in_order: bool,
        emit: Listener,
        budget: BudgetGate | None = None,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._run_limiter = run_limiter
        self._bottlenecks: BottleneckReporter[JobQueue] = BottleneckReporter(emit)
        self._admission = Admission(
            self._endpoints, run_limiter, budget, self._on_room, self._bottlenecks.blocked, in_order=in_order
        )
        self._destinations: dict[tuple[str, str, AbstractSet[Endpoint]], Destinations] = {}
        """By API path, model and excluded endpoints."""
        self._queues: dict[tuple[str, ...], JobQueue] = {}
        """By the limit group of the run, and the endpoints with the limit group at each."""

    async def acquire(
        self, job: Job, size: RequestSize, *, is_retry: bool, exclude: AbstractSet[Endpoint]
    ) -> EndpointPermit:
        """Wait until a request of this size may be sent to an endpoint outside ``exclude``. See ``EndpointPool``."""
        destinations = self._destinations_of(job, frozenset(exclude))
        while True:
            destinations.raise_if_closed(job)
            await self._run_limiter.starts.wait_for_turn()
            permit = await self._wait(destinations, job, size, is_retry=is_retry)
            endpoint = permit.endpoint
            if endpoint.closed_reason(job) is None and (permit.is_probe or not endpoint.health.is_down):
                return permit
            permit.release()
            is_retry = True

    def next_start_at(self) -> float | None:
        """When the next request may start; None where none waits, or for something without a time."""
        return self._admission.next_start_at()

    # ------------------------------------------------------------ the queues

    def _destinations_of(self, job: Job, excluded: frozenset[Endpoint]) -> Destinations:
        key = job.path, job.model, excluded
        destinations = self._destinations.get(key)
        if destinations is None:
            endpoints = [one for one in self._endpoints if one not in excluded and one.answers(job.model)]
            groups = [self._run_limiter.group_name(job)]
            for endpoint in endpoints:
                groups += endpoint.name, endpoint.limiter.group_name(endpoint.job_as_sent(job))
            queue = self._queues.setdefault(tuple(groups), JobQueue(endpoints))
            destinations = self._destinations[key] = Destinations(queue, endpoints)
        return destinations

    async def _wait(self, destinations: Destinations, job: Job, size: RequestSize, *, is_retry: bool) -> EndpointPermit:
        queue = destinations.queue
        is_next = size.goes_first or queue.head() is None
        permit: asyncio.Future[EndpointPermit] = asyncio.get_running_loop().create_future()
        request = WaitingRequest(job=job, size=size, destinations=destinations, permit=permit)
        queue.put(request, is_retry=is_retry, goes_first=size.goes_first)
        if size.goes_first:
            queue.go_first()
        if is_next:
            while self._serve(queue):
                pass
        try:
            return await permit
        except asyncio.CancelledError:
            if not permit.cancelled() and permit.exception() is None:
                permit.result().release()
            queue.on_cancelled(request)
            if queue.head() is None:
                self._bottlenecks.blocked.pop(queue, None)
                self._bottlenecks.schedule()
            raise

    def _on_room(self, waiting: WaitingList) -> None:
        """There may be room for the queues in a list: let each have its turn, until one must go on waiting there."""
        while (queue := waiting.first()) is not None:
            waiting.reopen(queue)
            if self._serve(queue):
                waiting.move_to_end(queue)
            elif waiting.waits:
                break
            else:
                waiting.remove(queue)

    def _serve(self, queue: JobQueue) -> bool:
        """Grant the head of a queue a permit, or fail it where it can never be sent. False: there is none, or it waits
        in the lists for what it lacks."""
        self._bottlenecks.schedule()
        request = queue.head()
        if request is None:
            self._bottlenecks.blocked.pop(queue, None)
            return False
        try:
            permit = self._admission.permit(queue, request)
        except (TooLarge, BudgetExhausted, UnknownCost, EndpointClosed) as error:
            request.permit.set_exception(error)
        else:
            if permit is None:
                return False
            request.permit.set_result(permit)
        self._bottlenecks.blocked.pop(queue, None)
        return True
