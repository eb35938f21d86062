"""Hands the jobs that wait to those of several endpoints that have room: admission where there is
more than one, and where the run has a budget.

    acquire ─► queue (one for all jobs that share limits everywhere) ─► the run's limits ─► an endpoint with room
                          ▲                                                                     │
                          └── any change at an endpoint: sent, responded, settled, release, ...─┘

The queue is here and not at the endpoints, so that a job belongs to none while it waits: the first endpoint that has
room takes it. An endpoint that changes is asked alone, and only while jobs wait: the cost of a job does not grow with
the number of endpoints that are at their limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import inf

from processor.core.events import Bottleneck, BottleneckChanged, Listener
from processor.core.models import Job, RequestSize
from processor.cost.budget import Fit
from processor.endpoints.budget_gate import BudgetExhausted, BudgetGate, UnknownCost
from processor.endpoints.endpoint import Endpoint, EndpointClosed, EndpointPermit, Limiter
from processor.endpoints.least_used import LeastUsed, use_of
from processor.endpoints.shared_permit import SharedPermit
from processor.ratelimit.fair_queue import FairQueue
from processor.ratelimit.limit_group import TooLarge
from processor.ratelimit.limiter import Blocked, RateLimiter
from processor.ratelimit.wake_up import WakeUp, WakeUpTimes


@dataclass(slots=True, eq=False, kw_only=True)
class WaitingRequest:
    """A request that waits for an endpoint with room."""

    job: Job
    size: RequestSize
    number: int
    """In the order of arrival; below all others where the request goes first."""
    permit: asyncio.Future[EndpointPermit]
    too_large_for: set[Endpoint] = field(default_factory=set)

    @property
    def is_done(self) -> bool:
        return self.permit.done()


class JobQueue(FairQueue[WaitingRequest]):
    """The requests that wait for the same limit groups of the same endpoints."""

    def __init__(self, groups: dict[Endpoint, str]) -> None:
        super().__init__()
        self.groups = groups
        """The endpoints that answer them, in their order, and the name of the limit group at each."""


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
        self._in_order = in_order
        self._least_used = LeastUsed(self._endpoints)
        self._emit = emit
        self._budget = budget
        self._numbers = count()
        self._queue_of: dict[tuple[str, str, AbstractSet[Endpoint]], JobQueue] = {}
        """By API path, model and excluded endpoints."""
        self._queues: dict[tuple[tuple[str, str], ...], JobQueue] = {}
        self._waiting: dict[JobQueue, None] = {}
        """The queues that are not empty."""
        self._wake_up_times = WakeUpTimes()
        self._run_wake_up = WakeUp(self._wake_up_times)
        self._wake_ups = {endpoint.limiter: WakeUp(self._wake_up_times) for endpoint in self._endpoints}
        self._sharing: dict[Limiter, list[Endpoint]] = {}
        """The endpoints of each rate limiter."""
        for endpoint in self._endpoints:
            self._sharing.setdefault(endpoint.limiter, []).append(endpoint)
            endpoint.health.call_when_available(self._wake_ups[endpoint.limiter].fire)
        self._blocked_by: Bottleneck = "input"
        self._last_bottleneck: Bottleneck | None = None

    async def acquire(
        self, job: Job, size: RequestSize, *, is_retry: bool, exclude: AbstractSet[Endpoint]
    ) -> EndpointPermit:
        """Wait until a request of this size may be sent to an endpoint outside ``exclude``. See ``EndpointPool``."""
        excluded = frozenset(exclude)
        while True:
            self._raise_if_closed(job, excluded)
            await self._run_limiter.throttle_start()
            permit = await self._wait(self._queue(job, excluded), job, size, is_retry=is_retry)
            endpoint = permit.endpoint
            if endpoint.closed_reason(job) is None and (permit.is_probe or not endpoint.health.is_down):
                return permit
            permit.release()
            is_retry = True

    def next_start_at(self) -> float | None:
        """When the next request may start; None where none waits, or for something without a time."""
        return self._wake_up_times.first() if self._waiting else None

    def _raise_if_closed(self, job: Job, excluded: AbstractSet[Endpoint]) -> None:
        reason = f"no endpoint answers the model {job.model}"
        for endpoint in self._endpoints:
            if endpoint not in excluded and endpoint.answers(job.model):
                if (closed := endpoint.closed_reason(job)) is None:
                    return
                reason = closed
        raise EndpointClosed(reason)

    # ------------------------------------------------------------ the queues

    def _queue(self, job: Job, excluded: frozenset[Endpoint]) -> JobQueue:
        key = job.path, job.model, excluded
        queue = self._queue_of.get(key)
        if queue is None:
            groups = {
                endpoint: endpoint.limiter.group_name(endpoint.job_as_sent(job))
                for endpoint in self._endpoints
                if endpoint not in excluded and endpoint.answers(job.model)
            }
            shared = tuple((endpoint.name, group) for endpoint, group in groups.items())
            queue = self._queue_of[key] = self._queues.setdefault(shared, JobQueue(groups))
        return queue

    async def _wait(self, queue: JobQueue, job: Job, size: RequestSize, *, is_retry: bool) -> EndpointPermit:
        request = WaitingRequest(
            job=job,
            size=size,
            number=-1 if size.goes_first else next(self._numbers),
            permit=asyncio.get_running_loop().create_future(),
        )
        queue.put(request, is_retry=is_retry, goes_first=size.goes_first)
        if queue not in self._waiting or size.goes_first:
            self._waiting[queue] = None
            self._drain(self._endpoints)
        try:
            return await request.permit
        except asyncio.CancelledError:
            if not request.permit.cancelled() and request.permit.exception() is None:
                request.permit.result().release()
            for wake_up in (self._run_wake_up, *self._wake_ups.values()):
                wake_up.fire()
            raise

    def _drain(self, endpoints: Sequence[Endpoint]) -> None:
        """Send what these endpoints have room for, the oldest first; and arrange to be called when they have more."""
        now = asyncio.get_running_loop().time()
        blocked: set[str] = set()
        """Limit groups that an older request waits for: a younger one must not overtake it there."""
        for queue in self._by_age():
            while (request := queue.head()) is not None:
                if not self._settle(request, queue, endpoints, blocked, now):
                    break
            else:
                self._waiting.pop(queue, None)
        if not self._waiting:
            self._blocked_by = "input"
        if self._blocked_by != self._last_bottleneck:
            self._last_bottleneck = self._blocked_by
            self._emit(BottleneckChanged(at=now, bottleneck=self._blocked_by))

    def _by_age(self) -> list[JobQueue]:
        queues = list(self._waiting)
        if len(queues) > 1:
            queues.sort(key=lambda queue: head.number if (head := queue.head()) else 0)
        return queues

    def _settle(
        self, request: WaitingRequest, queue: JobQueue, endpoints: Sequence[Endpoint], blocked: set[str], now: float
    ) -> bool:
        """Grant the request at one of these endpoints, or fail it where it is too large. False: it goes on waiting."""
        try:
            of_run = self._run_limiter.check(request.size)
        except TooLarge as error:
            request.permit.set_exception(error)
            return True
        if isinstance(of_run, Blocked):
            self._blocked_by = of_run.bottleneck
            self._run_wake_up.schedule(partial(self._drain, self._endpoints), of_run.until)
            return False
        if self._budget is not None:
            endpoints = self._affordable(self._budget, request, queue, endpoints)
            if request.is_done or not endpoints:
                return request.is_done
        permit = self._permit(request, queue, endpoints, blocked, now)
        if permit is None:
            return request.is_done
        budget = self._budget
        reserved = None if budget is None else budget.reserve(permit.endpoint, request.job, request.size)
        wake_up = self._wake_ups[permit.endpoint.limiter]
        run_permit = self._run_limiter.grant(of_run)
        wake_ups = (wake_up, self._run_wake_up)
        shared = SharedPermit(permit, run_permit, wake_ups, self._least_used.on_changed, reserved)
        request.permit.set_result(shared)
        return True

    def _affordable(
        self, budget: BudgetGate, request: WaitingRequest, queue: JobQueue, endpoints: Sequence[Endpoint]
    ) -> Sequence[Endpoint]:
        """Return those of these endpoints where the budget has room for the request, or fail it where it has none."""
        if budget.is_closed and not request.size.goes_first:
            return ()
        taking = [endpoint for endpoint in queue.groups if endpoint.closed_reason(request.job) is None]
        try:
            fits = budget.fits(taking, request.job, request.size) if taking else {}
        except (BudgetExhausted, UnknownCost) as error:
            request.permit.set_exception(error)
            return ()
        if Fit.FITS not in fits.values():  # the end of each request in flight gives back what it has not cost
            self._blocked_by = "in_flight"
            self._run_wake_up.schedule(partial(self._drain, self._endpoints))
        return [endpoint for endpoint in endpoints if fits.get(endpoint) is Fit.FITS]

    def _permit(
        self, request: WaitingRequest, queue: JobQueue, endpoints: Sequence[Endpoint], blocked: set[str], now: float
    ) -> EndpointPermit | None:
        soonest = inf
        for endpoint in self._preferred(endpoints):
            group = queue.groups.get(endpoint)
            if group is None or group in blocked or endpoint.closed_reason(request.job) is not None:
                continue
            try:
                permit = endpoint.try_acquire(request.job, request.size, now)
            except TooLarge as error:
                self._on_too_large(request, queue, endpoint, error)
                continue
            if isinstance(permit, EndpointPermit):
                return permit
            blocked.add(group)
            if permit.until <= soonest:
                soonest, self._blocked_by = permit.until, permit.bottleneck
            if self._in_order and endpoint.is_undecided(request.size):  # the next one is not tried before
                self._arm(endpoint.limiter, permit.until, self._endpoints)
                break
            self._arm(endpoint.limiter, permit.until, self._sharing[endpoint.limiter])
        return None

    def _preferred(self, endpoints: Sequence[Endpoint]) -> Iterator[Endpoint]:
        if self._in_order or len(endpoints) == 1:
            yield from endpoints
            return
        first = self._least_used.first() if endpoints is self._endpoints else min(endpoints, key=use_of)
        yield first
        yield from (endpoint for endpoint in sorted(endpoints, key=use_of) if endpoint is not first)

    def _on_too_large(self, request: WaitingRequest, queue: JobQueue, endpoint: Endpoint, error: TooLarge) -> None:
        request.too_large_for.add(endpoint)
        left = (one for one in queue.groups if one.closed_reason(request.job) is None)
        if request.too_large_for.issuperset(left) and not request.is_done:
            request.permit.set_exception(error)

    def _arm(self, limiter: Limiter, until: float, endpoints: Sequence[Endpoint]) -> None:
        """Drain the queues for these endpoints when something changes at a rate limiter, at ``until`` at the latest."""
        wake_up = self._wake_ups[limiter]
        due_at = inf if wake_up.due_at is None else wake_up.due_at
        if not wake_up.is_armed or until < due_at or endpoints is self._endpoints:
            wake_up.schedule(partial(self._drain, endpoints), min(until, due_at))
