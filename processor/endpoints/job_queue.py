"""The requests that wait for the same limits at the same endpoints, and the lists in which their queues wait."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from processor.core.events import Bottleneck
from processor.core.models import Job, RequestSize
from processor.endpoints.destinations import Destinations
from processor.endpoints.endpoint import Endpoint, EndpointPermit
from processor.ratelimit.fair_queue import FairQueue
from processor.ratelimit.limit_group import TooLarge
from processor.ratelimit.limiter import Blocked
from processor.ratelimit.wake_up import WakeUp


@dataclass(slots=True, eq=False, kw_only=True)
class WaitingRequest:
    """A request that waits for an endpoint with room."""

    job: Job
    size: RequestSize
    destinations: Destinations
    permit: asyncio.Future[EndpointPermit]
    impossible_at: dict[Endpoint, TooLarge | None] = field(default_factory=dict)
    """Where it can never be sent, and why; None: its cost is not known, or more than the budget has left."""
    worst_pico: list[int | None] | None = None
    """What it costs at most, for each class of prices of its destinations."""

    @property
    def is_done(self) -> bool:
        return self.permit.done()


class JobQueue(FairQueue[WaitingRequest]):
    """The requests that wait for the same limit group of the run, and the same ones at the same endpoints."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        super().__init__()
        self.open = set(endpoints)
        """The endpoints that may have room for the head, as far as is known. At each other one it waits in a list."""
        self.undecided: Endpoint | None = None
        """Whether this one has room is not known before its first response, and those after it are not tried."""
        self.lists: dict[WaitingList, None] = {}
        """Where it waits."""
        self.run_list: WaitingList | None = None
        self.endpoint_lists: dict[Endpoint, WaitingList] = {}
        """For room in its limit group: of the run, and at each endpoint. They are made when they are needed."""

    def go_first(self) -> None:
        """The head has changed to one that goes first: look for room for it everywhere, before others."""
        for waiting in self.lists:
            waiting.move_to_front(self)

    def on_cancelled(self, request: WaitingRequest) -> None:
        """A request waits no longer: there may be room for the next one."""
        if self._head is request:
            for waiting in tuple(self.lists):
                if waiting.first() is self:
                    waiting.wake_up.fire()


class WaitingList:
    """The queues that wait for the same thing, such as room in a limit group: first come, first served.

    When there may be room, the first of them is looked at alone. A queue waits here at one or several endpoints, which
    are then not in ``JobQueue.open``. One that has become empty stays until it is the first: what its last head waited
    for is what the next one will wait for, too.
    """

    def __init__(
        self, wake_up: WakeUp, on_room: Callable[[WaitingList], None], on_empty: Callable[[WakeUp], None]
    ) -> None:
        """``on_room`` is called when there may be room; ``on_empty`` when the list has become empty."""
        self.wake_up = wake_up
        self.bottleneck: Bottleneck = "input"
        """What the first waits for."""
        self._on_room = partial(on_room, self)
        self._on_empty = on_empty
        self._endpoints: OrderedDict[JobQueue, list[Endpoint]] = OrderedDict()
        """Where each queue waits."""

    def first(self) -> JobQueue | None:
        """The queue whose turn it is. Those that have become empty are dropped."""
        while self._endpoints:
            queue = next(iter(self._endpoints))
            if queue.head() is not None:
                return queue
            self.remove(queue)
        return None

    def is_turn_of(self, queue: JobQueue) -> bool:
        return self.first() in (queue, None)

    def add(self, queue: JobQueue, endpoint: Endpoint | None = None, *, goes_first: bool = False) -> None:
        """Let a queue wait here: at an endpoint, or for what concerns all of them."""
        endpoints = self._endpoints.setdefault(queue, [])
        queue.lists[self] = None
        if endpoint is not None:
            endpoints.append(endpoint)
            queue.open.discard(endpoint)
        if goes_first:
            self._endpoints.move_to_end(queue, last=False)

    def wait(self, blocked: Blocked) -> None:
        """The first waits for this: call ``on_room`` after the next change, or at a set time."""
        self.bottleneck = blocked.bottleneck
        self.wake_up.schedule(self._on_room, blocked.until)

    @property
    def waits(self) -> bool:
        """Whether the first waits. False: there may be room, and the first is being looked at, or soon will be."""
        return self.wake_up.is_armed

    def reopen(self, queue: JobQueue) -> None:
        """There may be room for a queue. It keeps its place."""
        if endpoints := self._endpoints[queue]:
            queue.open.update(endpoints)
            if queue.undecided in endpoints:
                queue.undecided = None
            endpoints.clear()

    def move_to_end(self, queue: JobQueue) -> None:
        """The queue has had its turn."""
        if queue in self._endpoints:
            self._endpoints.move_to_end(queue)

    def move_to_front(self, queue: JobQueue) -> None:
        """The queue has its turn now."""
        self._endpoints.move_to_end(queue, last=False)
        self.reopen(queue)

    def remove(self, queue: JobQueue) -> None:
        """The queue does not wait here, or no longer. Then the next one has its turn."""
        if queue in self._endpoints:
            was_first = next(iter(self._endpoints)) is queue
            self.reopen(queue)
            del self._endpoints[queue], queue.lists[self]
            if was_first:
                self.wake_up.fire()
        if not self._endpoints:
            self._on_empty(self.wake_up)
