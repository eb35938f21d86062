"""Decides whether the head of a queue may be sent now, and where; or lets it wait for what it lacks.

| what it needs                               | the list in which its queue waits  |
|---------------------------------------------|------------------------------------|
| room in its limit group of the run          | one for each such group            |
| room in the budget                          | one                                |
| at an endpoint: the turn to be a probe or the canary | one for each endpoint     |
| at an endpoint that is dearer than others: room in the budget | one              |
| at an endpoint: room in its limit group     | one for each such group            |

Where the run and the budget have room, it waits at each of its endpoints for one thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

from processor.core.events import Bottleneck
from processor.core.models import RequestSize
from processor.cost.budget import Fit
from processor.endpoints.budget_gate import BudgetGate
from processor.endpoints.destinations import endpoint_prices
from processor.endpoints.endpoint import Endpoint, EndpointPermit
from processor.endpoints.endpoint_order import EndpointOrder, InOrder, LeastUsed
from processor.endpoints.job_queue import JobQueue, WaitingList, WaitingRequest
from processor.endpoints.shared_permit import SharedPermit
from processor.ratelimit.limit_group import TooLarge
from processor.ratelimit.limiter import Blocked, Grantable, RateLimiter
from processor.ratelimit.wake_up import WakeUp, WakeUpTimes

_NO_BUDGET = Blocked("in_flight", inf)
"""The end of each request in flight gives back what it has not cost."""


class Admission:
    """Admission to several endpoints. ``on_room`` is called with a list when there may be room for the queues in it.
    ``blocked`` gets what the heads of queues wait for."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        run_limiter: RateLimiter,
        budget: BudgetGate | None,
        on_room: Callable[[WaitingList], None],
        blocked: dict[JobQueue, Bottleneck],
        *,
        in_order: bool,
    ) -> None:
        self._endpoints = endpoints
        self._run_limiter = run_limiter
        self._budget = budget
        self._on_room = on_room
        self._in_order = InOrder(endpoints) if in_order else None
        self._order: EndpointOrder = self._in_order or LeastUsed(endpoints)
        self._blocked = blocked
        self._group_lists: dict[WakeUp, WaitingList] = {}
        self._times = WakeUpTimes()
        self._turn_lists = {endpoint: self._own_list() for endpoint in endpoints}
        self._budget_list, self._dear_list = self._own_list(), self._own_list()
        for endpoint, waiting in self._turn_lists.items():
            endpoint.health.call_when_available(waiting.wake_up.fire)

    def next_start_at(self) -> float | None:
        """When the next request may start; None where none waits, or for something without a time."""
        if not self._blocked:
            return None
        limiters = dict.fromkeys((self._run_limiter, *(endpoint.limiter for endpoint in self._endpoints)))
        times = (self._times.first(), *(limiter.next_start_at() for limiter in limiters))
        return min((at for at in times if at is not None), default=None)

    def permit(self, queue: JobQueue, request: WaitingRequest) -> SharedPermit | None:
        """Return a permit for the head of a queue if there is room: in the run, in the budget and at an endpoint.

        Raises what ends the request without one.
        """
        request.destinations.raise_if_closed(request.job)
        run_list = self._run_list(queue, request)
        room = self._room_of_run(run_list, queue, request)
        if room is None:
            return None
        permit = self._permit_of_endpoint(queue, request) if self._is_affordable(queue, request) else None
        if permit is None:
            run_list.remove(queue)
            return None
        wake_ups = [self._turn_lists[permit.endpoint].wake_up]
        reserved = None
        if self._budget is not None:
            reserved = self._budget.budget.reserve(self._worst_pico(request, permit.endpoint) or 0)
            wake_ups += self._budget_list.wake_up, self._dear_list.wake_up
        return SharedPermit(permit, self._run_limiter.grant(room), wake_ups, self._order.on_changed, reserved)

    def _room_of_run(self, run_list: WaitingList, queue: JobQueue, request: WaitingRequest) -> Grantable | None:
        """Return the room for the request in the limits of the run; None: it waits for that. Raises TooLarge."""
        if not self._has_turn(run_list, queue, request):
            self._wait_in(run_list, queue, request)
            return None
        room = self._run_limiter.check(request.size)
        if isinstance(room, Blocked):
            self._wait_in(run_list, queue, request, room)
            return None
        return room

    def _is_affordable(self, queue: JobQueue, request: WaitingRequest) -> bool:
        """Whether the budget has room at an endpoint; if not, the head waits for that. Raises BudgetExhausted and
        UnknownCost."""
        gate = self._budget
        if gate is None:
            return True
        destinations, goes_first = request.destinations, request.size.goes_first
        if not gate.is_closed or goes_first:
            if destinations.prices is None:
                destinations.prices = endpoint_prices(destinations.endpoints, partial(gate.tariff, job=request.job))
            if request.worst_pico is None:
                request.worst_pico = gate.worst_by_class(destinations.prices, request.size)
            fit = gate.best_fit(destinations.prices, request.worst_pico, request.job, request.size)
            if fit is Fit.FITS and self._has_turn(self._budget_list, queue, request):
                return True
        self._wait_in(self._budget_list, queue, request, _NO_BUDGET)
        return False

    def _permit_of_endpoint(self, queue: JobQueue, request: WaitingRequest) -> EndpointPermit | None:
        """Return the permit of an endpoint that has room; None: the head waits at all of them. Raises TooLarge."""
        unfit: list[Endpoint] = []
        permit = None
        while queue.open and permit is None:
            endpoint = self._order.first(queue.open)
            if self._in_order and queue.undecided and self._in_order.is_before(queue.undecided, endpoint):
                break
            if endpoint in request.impossible_at or endpoint.closed_reason(request.job) is not None:
                queue.open.remove(endpoint)
                if endpoint.health.stopped_reason is None:  # it may take the next one
                    unfit.append(endpoint)
                continue
            permit = self._try_at(endpoint, queue, request)
            if self._in_order and permit is None and endpoint.is_undecided(request.size):
                queue.undecided = endpoint
        queue.open.update(unfit)
        if unfit and permit is None:
            self._raise_if_too_large(request)
        return permit

    def _try_at(self, endpoint: Endpoint, queue: JobQueue, request: WaitingRequest) -> EndpointPermit | None:
        """Return a permit if the endpoint has room; None: the head of the queue waits there, or is impossible."""
        now = asyncio.get_running_loop().time()
        if (blocked := endpoint.turn_blocked(now)) is not None:
            self._wait_in(self._turn_lists[endpoint], queue, request, blocked, endpoint)
            return None
        if self._budget is not None:
            worst_pico = self._worst_pico(request, endpoint)
            fit = Fit.UNKNOWN if worst_pico is None else self._budget.budget.fit(worst_pico)
            if fit in (Fit.UNKNOWN, Fit.EXCEEDS):
                request.impossible_at[endpoint] = None
                return None
            if fit is Fit.WAITS:
                self._wait_in(self._dear_list, queue, request, _NO_BUDGET, endpoint)
                return None
        group_list = self._endpoint_list(queue, endpoint, request)
        if not self._has_turn(group_list, queue, request):
            self._wait_in(group_list, queue, request, None, endpoint)
            return None
        # While slots of the run are waited for, their order decides: else those whose turn it is for a slot of the run
        # and those whose turn it is for one of the endpoint could wait for each other.
        in_turn = not self._run_limiter.slots.has_waiters
        try:
            permit = endpoint.try_acquire(request.job, request.size, now, in_turn=in_turn)
        except TooLarge as error:
            request.impossible_at[endpoint] = error
            return None
        if isinstance(permit, Blocked):
            self._wait_in(group_list, queue, request, permit, endpoint)
            return None
        return permit

    def _worst_pico(self, request: WaitingRequest, endpoint: Endpoint) -> int | None:
        prices, worst_pico = request.destinations.prices, request.worst_pico
        assert prices is not None and worst_pico is not None, "the budget has been asked"
        return worst_pico[prices.class_of[endpoint]]

    def _raise_if_too_large(self, request: WaitingRequest) -> None:
        """Raises TooLarge where it is so for an endpoint, and no other one is left."""
        errors = [error for error in request.impossible_at.values() if error is not None]
        taking = (one for one in request.destinations.endpoints if one.closed_reason(request.job) is None)
        if errors and all(endpoint in request.impossible_at for endpoint in taking):
            raise errors[0]

    # ------------------------------------------------------------ the lists

    def _has_turn(self, waiting: WaitingList, queue: JobQueue, request: WaitingRequest) -> bool:
        return request.size.goes_first or waiting.is_turn_of(queue)

    def _wait_in(
        self,
        waiting: WaitingList,
        queue: JobQueue,
        request: WaitingRequest,
        blocked: Blocked | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        """Let a queue wait in a list. ``blocked``: by what, if it is the first. ``endpoint``: None for all of them."""
        waiting.add(queue, endpoint, goes_first=request.size.goes_first)
        if blocked is not None and waiting.first() is queue:
            waiting.wait(blocked)
        self._blocked[queue] = waiting.bottleneck

    def _run_list(self, queue: JobQueue, request: WaitingRequest) -> WaitingList:
        if queue.run_list is None:
            queue.run_list = self._group_list(self._run_limiter, request.size)
        return queue.run_list

    def _endpoint_list(self, queue: JobQueue, endpoint: Endpoint, request: WaitingRequest) -> WaitingList:
        waiting = queue.endpoint_lists.get(endpoint)
        if waiting is None:
            waiting = self._group_list(endpoint.own_limiter, endpoint.size_as_sent(request.size))
            queue.endpoint_lists[endpoint] = waiting
        return waiting

    def _group_list(self, limiter: RateLimiter, size: RequestSize) -> WaitingList:
        wake_up = limiter.wake_up(size)
        waiting = self._group_lists.get(wake_up)
        if waiting is None:
            waiting = self._group_lists[wake_up] = WaitingList(wake_up, self._on_room, limiter.end_wait)
        return waiting

    def _own_list(self) -> WaitingList:
        return WaitingList(WakeUp(self._times), self._on_room, WakeUp.cancel)
