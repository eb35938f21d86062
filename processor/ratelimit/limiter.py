"""The rate limiter: every attempt acquires a permit here before it is sent.

    acquire ─► queue (one per limit group) ─► cool-down, limits, slot ─► Permit
                          ▲                                                 │
                          └──── sent, responded, throttled, settled, release

The head of a queue holds nothing while it waits. Once all that it needs is free, it takes it in one synchronous step.
All requests that may be sent are granted in one callback: waking them one by one would cost a loop iteration each.
"""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf
from typing import NamedTuple

from processor.core.events import Bottleneck, ConcurrencyChanged, LimitsChanged, Listener, Notice
from processor.core.models import Cost, Job, RequestSize
from processor.ratelimit.bottleneck import BottleneckReporter
from processor.ratelimit.headers import HEADER_NAMES, Resource
from processor.ratelimit.in_flight_slots import InFlightSlots
from processor.ratelimit.limit_group import LimitGroup, TooLarge
from processor.ratelimit.permit import Permit
from processor.ratelimit.reservation import CostByResource, QueuedRequest, cost_by_resource
from processor.ratelimit.settings import LimitSettings, limit_group_key
from processor.ratelimit.snapshot import LimiterSnapshot, LimitGroupSnapshot
from processor.ratelimit.start_throttle import StartThrottle
from processor.ratelimit.strategies.concurrency_controller import ConcurrencyController
from processor.ratelimit.token_cost import request_cost
from processor.ratelimit.wake_up import WakeUp, WakeUpTimes


class Blocked(NamedTuple):
    """What a request waits for, and when to ask again at the latest; inf: after the next change."""

    bottleneck: Bottleneck
    until: float


class Grantable(NamedTuple):
    """A request that may be sent now."""

    group: LimitGroup
    size: RequestSize
    cost: Cost
    by_resource: CostByResource
    now: float


class RateLimiter:
    """Grants permits. ``concurrency`` is the most requests in flight, over all limit groups. ``name`` stands before the
    names of its limit groups, where a run has several rate limiters."""

    def __init__(self, settings: LimitSettings, *, emit: Listener, concurrency: int, name: str = "") -> None:
        self._settings = settings
        self._prefix = f"{name} " if name else ""
        self._emit = emit
        self._concurrency = concurrency
        self.starts = StartThrottle()
        """Of all requests, whatever the limits."""
        self.slots = InFlightSlots(concurrency)
        self._release_slot = self.slots.release
        self._wake_up_times = WakeUpTimes()
        self._groups: dict[str, LimitGroup] = {}
        self._group_of: dict[tuple[str, str], LimitGroup] = {}  # by API path and model
        self._announced_as_lower: set[tuple[LimitGroup, Resource]] = set()
        self._bottlenecks: BottleneckReporter[LimitGroup] = BottleneckReporter(emit)

    async def acquire(self, size: RequestSize, *, is_retry: bool) -> Permit:
        """Wait until a request of this size may be sent.

        First in, first out within a limit group; retries and new jobs take turns. Raises TooLarge at once where the
        request exceeds a whole minute's limit. If the wait is cancelled, nothing has been taken.
        """
        await self.starts.wait_for_turn()
        group = self._group(size)
        if group.queue.head() is None and isinstance(checked := self._check(group, size), Grantable):
            return self._grant(*checked)
        request = QueuedRequest(size.as_known_now(), self._settings.charging, group.expected_output(size))
        group.raise_if_too_large(request.cost_by_resource)
        group.queue.put(request, is_retry=is_retry, goes_first=size.goes_first)
        if size.goes_first or not group.wake_up.is_armed:
            self._drain_queue(group)
        try:
            return await request.permit
        except asyncio.CancelledError:
            if not request.permit.cancelled() and request.permit.exception() is None:
                request.permit.result().release()
            group.wake_up.fire()
            raise

    def try_acquire(self, size: RequestSize, *, in_turn: bool = True) -> Permit | Blocked:
        """Return a permit if a request of this size may be sent now. Raises TooLarge.

        For a caller with queues of its own that waits with the ``wake_up`` of the limit group; not beside ``acquire``.
        ``in_turn``: a free slot is for the limit group that has waited longest for one.
        """
        checked = self.check(size, in_turn=in_turn)
        return checked if isinstance(checked, Blocked) else self.grant(checked)

    def check(self, size: RequestSize, *, in_turn: bool = True) -> Blocked | Grantable:
        """Return what ``grant`` takes if a request of this size may be sent now. See ``try_acquire``."""
        return self._check(self._group(size), size, in_turn=in_turn)

    def grant(self, checked: Grantable) -> Permit:
        """Return the permit for what ``check`` has just found room for."""
        return self._grant(*checked)

    def wake_up(self, size: RequestSize) -> WakeUp:
        """What is fired when the limit group of a request may have more room. To be armed with what ``check`` says."""
        return self._group(size).wake_up

    def end_wait(self, wake_up: WakeUp) -> None:
        """Nobody waits for more room in this limit group."""
        self.slots.dequeue(wake_up)
        wake_up.cancel()

    def awaits_first_response(self, size: RequestSize) -> bool:
        """Whether no more of the request's limit group is sent because its first response may name the limits."""
        return self._group(size).awaits_first_response(asyncio.get_running_loop().time())

    def next_start_at(self) -> float | None:
        """When the next request that waits for a limit may start; None where none waits, or for something else."""
        return self._wake_up_times.first()

    @property
    def counts_characters(self) -> bool:
        return self._settings.counts_characters

    def group_name(self, job: Job) -> str:
        """The name of the job's limit group."""
        return self._prefix + limit_group_key(self._settings, job)

    def cool_down_s(self, job: Job) -> float:
        """How long the job's limit group is held back from now; 0 where it is not."""
        group = self._groups.get(self.group_name(job))
        return 0.0 if group is None else max(0.0, group.cool_down.until - asyncio.get_running_loop().time())

    def snapshot(self) -> LimiterSnapshot:
        now = asyncio.get_running_loop().time()
        return LimiterSnapshot(
            in_flight=self.slots.in_flight,
            limit_groups=tuple(
                LimitGroupSnapshot(
                    name=group.name,
                    waiting=group.queue.waiting,
                    limits=group.limits,
                    cool_down_s=max(0.0, group.cool_down.until - now),
                )
                for group in self._groups.values()
            ),
        )

    # ------------------------------------------------------------ the queues

    def _check(self, group: LimitGroup, size: RequestSize, *, in_turn: bool = True) -> Blocked | Grantable:
        size = size.as_known_now()
        cost = request_cost(size, self._settings.charging, group.expected_output(size).tokens)
        by_resource = cost_by_resource(cost)
        group.raise_if_too_large(by_resource)
        now = asyncio.get_running_loop().time()
        blocked = self._blocked_by(group, by_resource, now, goes_first=size.goes_first, in_turn=in_turn)
        group.is_queueing, group.released_since_drain = blocked is not None, 0
        return Grantable(group, size, cost, by_resource, now) if blocked is None else blocked

    def _drain_queue(self, group: LimitGroup) -> None:
        """Grant all requests of the group that may be sent now, and schedule the next call for the first that waits."""
        now = asyncio.get_running_loop().time()
        group.released_since_drain = 0
        while (request := group.queue.head()) is not None:
            request.renew()
            try:
                group.raise_if_too_large(request.cost_by_resource)
            except TooLarge as error:
                request.permit.set_exception(error)
                continue
            cost, goes_first = request.cost_by_resource, request.size.goes_first
            if (blocked := self._blocked_by(group, cost, now, goes_first=goes_first)) is not None:
                bottleneck, until = blocked
                group.wake_up.schedule(partial(self._drain_queue, group), until)
                self._bottlenecks.blocked[group] = bottleneck
                group.is_queueing = True
                break
            self._bottlenecks.blocked.pop(group, None)
            request.permit.set_result(self._grant(group, request.size, request.cost, cost, now))
        else:
            group.is_queueing = False
            self.end_wait(group.wake_up)
            self._bottlenecks.blocked.pop(group, None)
        self._bottlenecks.schedule()

    def _grant(
        self, group: LimitGroup, size: RequestSize, cost: Cost, by_resource: CostByResource, now: float
    ) -> Permit:
        self.slots.acquire(group.wake_up)
        return Permit(group, size, group.grant(cost, by_resource, now), self._release_slot)

    def _blocked_by(
        self, group: LimitGroup, cost: CostByResource, now: float, *, goes_first: bool, in_turn: bool = True
    ) -> Blocked | None:
        """What a request waits for; None: it may be sent. Its group queues for a slot if it needs nothing else."""
        blocked = self._group_blocked_by(group, cost, now)
        if blocked is not None:
            self.slots.dequeue(group.wake_up)
            return blocked
        if goes_first:
            self.slots.move_to_front(group.wake_up)
        if not (self.slots.available_to(group.wake_up) if in_turn else self.slots.has_free):
            self.slots.enqueue(group.wake_up)
            return Blocked("in_flight", inf)
        return None

    def _group_blocked_by(self, group: LimitGroup, cost: CostByResource, now: float) -> Blocked | None:
        if group.cool_down.until > now:
            return Blocked("cool_down", group.cool_down.until)
        at, resource = group.earliest(cost, now)
        if resource is not None:
            return Blocked("requests" if resource == "requests" else "tokens", at)
        blocked_until = group.concurrency_blocked_until(now)
        return None if blocked_until is None else Blocked("in_flight", blocked_until)

    # ------------------------------------------------------------ the groups

    def _group(self, size: RequestSize) -> LimitGroup:
        target = size.path, size.model
        group = self._group_of.get(target)
        if group is None:
            group = self._group_of[target] = self._open_group(size)
            self._bottlenecks.schedule()
        return group

    def _open_group(self, size: RequestSize) -> LimitGroup:
        key = self._prefix + limit_group_key(self._settings, size)
        group = self._groups.get(key)
        if group is None:
            limits = self._settings.of(size.model)
            group = self._groups[key] = LimitGroup(
                key,
                limits,
                concurrency=self._controller(key),
                refunds_unused=self._settings.charging == "used",
                bursts=self._settings.bursts,
                header_names=HEADER_NAMES[self._settings.dialect],
                first_alone_s=self._settings.first_alone_s,
                on_limits_changed=self._on_limits_changed,
                wake_up_times=self._wake_up_times,
            )
            if limits.is_set:
                at = asyncio.get_running_loop().time()
                self._emit(LimitsChanged(at=at, limit_group=key, rpm=limits.rpm, tpm=limits.tpm, source="configured"))
        return group

    def _controller(self, group: str) -> ConcurrencyController:
        def on_change(limit: int, reason: str) -> None:
            at = asyncio.get_running_loop().time()
            self._emit(ConcurrencyChanged(at=at, limit_group=group, limit=limit, reason=reason))

        return ConcurrencyController(
            self._concurrency,
            is_fixed=self._settings.concurrency_is_fixed,
            at=asyncio.get_running_loop().time(),
            on_change=on_change,
        )

    # ------------------------------------------------------------ events

    def _on_limits_changed(self, group: LimitGroup, at: float) -> None:
        limits, limiters = group.limits, group.resource_limiters
        self._emit(
            LimitsChanged(
                at=at,
                limit_group=group.name,
                rpm=limits.rpm,
                tpm=limits.tpm,
                source="reported",
                server_rpm=limiters["requests"].reported,
                server_tpm=limiters["tokens"].reported,
                counters=group.counters,
            )
        )
        for resource, limiter in group.resource_limiters.items():
            if limiter.is_overruled and (group, resource) not in self._announced_as_lower:
                self._announced_as_lower.add((group, resource))
                what = resource.replace("_", " ")
                text = (
                    f"{limiter.configured:.0f} {what} a minute are configured, the server grants {limiter.reported:.0f}"
                )
                self._emit(Notice(at=at, text=f"{text}: the server's lower limit is used"))
