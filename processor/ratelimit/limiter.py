"""The gate every attempt passes: first in, first out by lane, one in-flight slot each, waiting exact.

    admit ─► line (one head per lane) ─► cool-down, limits, slot ─► Permit
                          ▲                                           │
                          └──────── sent, response, refused, settle, release

A head holds nothing while it waits; what it needs is taken in one synchronous step once all of it is there. All that
may go go in that one step: handed on from task to task, each would cost a turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import inf

from aiolimiter import AsyncLimiter

from processor.core.events import Bottleneck, BottleneckChanged, LimitsChanged, Listener, Notice
from processor.core.models import Cost, RequestSize, Usage
from processor.ratelimit.headers import Resource
from processor.ratelimit.in_flight_slots import InFlightSlots
from processor.ratelimit.limit_group import (
    CostByResource,
    LimitGroup,
    QueuedRequest,
    Reservation,
    TooLarge,
    cost_by_resource,
)
from processor.ratelimit.settings import LimitSettings, RateLimits, limit_group_key
from processor.ratelimit.token_cost import ExpectedOutput, charge

MAX_STARTS_PER_S = 10_000
MAX_START_BURST = 100
"""A burst is no storm: so many requests may come at once, and so many a second, which one process can really send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitGroupSnapshot:
    name: str
    waiting: int
    limits: RateLimits
    """What is in force."""
    cool_down_s: float
    """Still to wait because of a refusal; 0 where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterSnapshot:
    in_flight: int
    lanes: tuple[LimitGroupSnapshot, ...]


class Permit:
    """One request's permission to go. Tells the gate what became of it; every method is synchronous.

    ``sent`` once, then ``response`` for each response, ``refused`` for a 429, ``settle`` for a complete
    reply; ``release`` always, and last. Times are the event loop's.
    """

    __slots__ = ("_charge", "_demand", "_gate", "_lane", "_released")

    def __init__(self, gate: RateLimiter, lane: LimitGroup, demand: RequestSize, charge: Reservation) -> None:
        self._gate = gate
        self._lane = lane
        self._demand = demand
        self._charge = charge
        self._released = False

    @property
    def cost(self) -> Cost:
        return self._charge.cost

    @property
    def granted_at(self) -> float:
        return self._charge.granted_at

    @property
    def lane(self) -> str:
        return self._lane.name

    def sent(self, at: float) -> None:
        """The request is on its way: from now on the server may count it."""
        if self._charge.sent_at is None:
            self._lane.sent(self._charge, at)

    def response(self, status: int, headers: Mapping[str, str], at: float) -> None:
        """Headers have arrived, of any status. Names are lower case."""
        if self._lane.response(self._charge, status, headers, at):
            self._gate.limits_changed(self._lane, at)

    def refused(self, retry_after_s: float | None, at: float) -> None:
        """The server said 429: nobody in this lane goes until it has waited as told, or else a growing while."""
        self._lane.refused(self._charge, retry_after_s, at)

    def settle(self, usage: Usage | None, at: float) -> None:
        """The reply is complete. Without a usage nothing is learned from it."""
        if usage is not None:
            self._gate.settle(self._lane, self._demand, self._charge, usage, at)

    def release(self) -> None:
        """Give the in-flight slot back, and the charge too if nothing was sent. More than once does no harm."""
        if not self._released:
            self._released = True
            self._lane.release(self._charge)
            self._gate.slots.give()


class RateLimiter:
    def __init__(self, settings: LimitSettings, *, listen: Listener, concurrency: int) -> None:
        self.slots = InFlightSlots(concurrency)
        self._brake = AsyncLimiter(MAX_START_BURST, MAX_START_BURST / MAX_STARTS_PER_S)
        self._settings = settings
        self._listen = listen
        self._concurrency = concurrency
        self._lanes: dict[str, LimitGroup] = {}
        self._lane_of: dict[tuple[str, str], LimitGroup] = {}
        """By path and model."""
        self._expected: dict[tuple[str, str], ExpectedOutput] = {}
        self._overruled: set[tuple[LimitGroup, Resource]] = set()
        self._bounds: dict[LimitGroup, Bottleneck] = {}
        self._told: Bottleneck | None = None
        self._telling = False

    async def admit(self, demand: RequestSize, *, retry: bool = False) -> Permit:
        """Wait until a request of this size may go.

        First in, first out within its lane; retries and new jobs in turn. Raises TooLarge at once where
        the request exceeds a whole minute's limit. If cancelled, nothing has been taken.
        """
        lane = self._lane(demand)
        cost = charge(demand, self._settings.charging, self._expectation(demand).output_tokens)
        turn = QueuedRequest(cost, cost_by_resource(cost), asyncio.get_running_loop().create_future())
        lane.check(turn.cost_by_resource)
        await self._brake.acquire()
        lane.line.join(turn, retry=retry)
        if not lane.bell.is_heard:
            self._advance(lane)
        try:
            return Permit(self, lane, demand, await turn.charge)
        except asyncio.CancelledError:
            if not turn.charge.cancelled() and turn.charge.exception() is None:
                Permit(self, lane, demand, turn.charge.result()).release()
            lane.bell.ring()
            raise

    def snapshot(self) -> LimiterSnapshot:
        now = asyncio.get_running_loop().time()
        return LimiterSnapshot(
            in_flight=self.slots.in_flight,
            lanes=tuple(
                LimitGroupSnapshot(
                    name=lane.name,
                    waiting=lane.line.waiting,
                    limits=lane.limits,
                    cool_down_s=max(0.0, lane.cooling.until - now),
                )
                for lane in self._lanes.values()
            ),
        )

    def limits_changed(self, lane: LimitGroup, at: float) -> None:
        self._listen(
            LimitsChanged(at=at, limit_group=lane.name, rpm=lane.limits.rpm, tpm=lane.limits.tpm, source="reported")
        )
        for resource, meter in lane.meters.items():
            if meter.is_overruled and (lane, resource) not in self._overruled:
                self._overruled.add((lane, resource))
                what = resource.replace("_", " ")
                text = f"{meter.configured:.0f} {what} a minute are configured, the server grants {meter.reported:.0f}"
                self._listen(Notice(at=at, text=f"{text}: the server's limit holds"))

    def settle(self, lane: LimitGroup, demand: RequestSize, charge: Reservation, usage: Usage, at: float) -> None:
        if demand.max_tokens is None:
            self._expectation(demand).learn(usage.completion_tokens / demand.choices)
        lane.settle(charge, usage, at, correct=self._settings.charging == "used")

    def _advance(self, lane: LimitGroup) -> None:
        """Let go whoever may go now, one after the other, and look again when the next one may."""
        now = asyncio.get_running_loop().time()
        while (turn := lane.line.head()) is not None:
            try:
                lane.check(turn.cost_by_resource)
            except TooLarge as error:
                turn.charge.set_exception(error)
                continue
            if (obstacle := self._obstacle(lane, turn.cost_by_resource, now)) is not None:
                bound, until = obstacle
                lane.bell.listen(partial(self._advance, lane), until)
                self._bounds[lane] = bound
                break
            self._grant(lane, turn, now)
        else:
            self.slots.leave(lane)
            lane.bell.hush()
            self._bounds.pop(lane, None)
        self._tell_bound()

    def _grant(self, lane: LimitGroup, turn: QueuedRequest, now: float) -> None:
        self.slots.take()
        self.slots.leave(lane)
        self._bounds.pop(lane, None)
        turn.charge.set_result(lane.grant(turn.cost, turn.cost_by_resource, now))

    def _obstacle(self, lane: LimitGroup, wanted: CostByResource, now: float) -> tuple[Bottleneck, float] | None:
        """What the head of this lane waits for, and until when at the latest. Only for a slot it stands in line."""
        obstacle = self._lane_obstacle(lane, wanted, now)
        if obstacle is not None:
            self.slots.leave(lane)
            return obstacle
        if not self.slots.open_to(lane):
            self.slots.join(lane)
            return "in_flight", inf
        return None

    def _lane_obstacle(self, lane: LimitGroup, wanted: CostByResource, now: float) -> tuple[Bottleneck, float] | None:
        if lane.cooling.until > now:
            return "cool_down", lane.cooling.until
        at, resource = lane.when(wanted, now)
        if resource is not None:
            return "requests" if resource == "requests" else "tokens", at
        full_until = lane.full_until(now)
        return None if full_until is None else ("in_flight", full_until)

    def _lane(self, demand: RequestSize) -> LimitGroup:
        kind = demand.path, demand.model
        lane = self._lane_of.get(kind)
        if lane is None:
            lane = self._lane_of[kind] = self._open_lane(demand)
        return lane

    def _open_lane(self, demand: RequestSize) -> LimitGroup:
        key = limit_group_key(self._settings, demand)
        lane = self._lanes.get(key)
        if lane is None:
            limits = self._settings.of(demand.model)
            lane = self._lanes[key] = LimitGroup(key, limits, concurrency=self._concurrency)
            if limits:
                now = asyncio.get_running_loop().time()
                self._listen(
                    LimitsChanged(at=now, limit_group=key, rpm=limits.rpm, tpm=limits.tpm, source="configured")
                )
        return lane

    def _expectation(self, demand: RequestSize) -> ExpectedOutput:
        key = demand.path, demand.model
        expectation = self._expected.get(key)
        if expectation is None:
            expectation = self._expected[key] = ExpectedOutput()
        return expectation

    def _tell_bound(self) -> None:
        """Once all that happens in this turn of the loop has had its say."""
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        """The lane that has waited longest speaks for the run."""
        self._telling = False
        bound: Bottleneck = next(iter(self._bounds.values()), "input")
        if bound != self._told:
            self._told = bound
            self._listen(BottleneckChanged(at=asyncio.get_running_loop().time(), bottleneck=bound))
