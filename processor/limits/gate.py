"""The gate every attempt passes: first in, first out by lane, one in-flight slot each, waiting exact.

    admit ─► line (one head per lane) ─► cool-down, limits, slot, pace ─► Permit
                                                  ▲                         │
                                                  └──── sent, response, refused, settle, release

A head holds nothing while it waits; what it needs is taken in one synchronous step once all of it is there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from processor.events import Bound, BoundBy, LimitsKnown, Listen
from processor.limits.charging import Expectation, charge
from processor.limits.lane import Lane
from processor.limits.settings import LaneLimits, LimitSettings, lane_key
from processor.limits.window import Slice
from processor.models import Cost, Demand, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSnapshot:
    name: str
    waiting: int
    limits: LaneLimits
    """What is in force."""
    cool_down_s: float
    """Still to wait because of a refusal; 0 where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSnapshot:
    in_flight: int
    lanes: tuple[LaneSnapshot, ...]


class Permit:
    """One request's permission to go. Tells the gate what became of it; every method is synchronous.

    ``sent`` once, then ``response`` for each response, ``refused`` for a 429, ``settle`` for a complete
    reply; ``release`` always, and last. Times are the event loop's.
    """

    __slots__ = ("_demand", "_gate", "_lane", "_released", "_sent_at", "_slices", "cost", "granted_at")

    def __init__(self, gate: Gate, lane: Lane, demand: Demand, cost: Cost, granted_at: float) -> None:
        self.cost = cost
        self.granted_at = granted_at
        self._gate = gate
        self._lane = lane
        self._demand = demand
        self._sent_at: float | None = None
        self._slices: dict[str, Slice] = {}
        self._released = False

    @property
    def lane(self) -> str:
        return self._lane.name

    def sent(self, at: float) -> None:
        """The request is on its way: from now on the server may count it."""
        if self._sent_at is not None:
            return
        self._sent_at = at
        for resource, meter in self._lane.meters.items():
            self._slices[resource] = meter.sent(getattr(self.cost, resource), at)
        self._lane.bell.ring()

    def response(self, status: int, headers: Mapping[str, str], at: float) -> None:
        """Headers have arrived, of any status. Names are lower case."""
        if status != 429:
            self._lane.accepted()

    def refused(self, retry_after_s: float | None, at: float) -> None:
        """The server said 429: nobody in this lane goes until it has waited as told, or else a growing while."""
        self._lane.refused(retry_after_s, at if self._sent_at is None else self._sent_at, at)

    def settle(self, usage: Usage | None, at: float) -> None:
        """The reply is complete. Without a usage nothing is learned from it."""
        if usage is not None:
            self._gate.settle(self._demand, self._lane, self.cost, self._slices, usage)

    def release(self) -> None:
        """Give the in-flight slot back, and the charge too if nothing was sent. More than once does no harm."""
        if self._released:
            return
        self._released = True
        if self._sent_at is None:
            for resource, meter in self._lane.meters.items():
                meter.pending -= getattr(self.cost, resource)
            self._lane.bell.ring()
        self._gate.free()


class Gate:
    def __init__(self, settings: LimitSettings, *, listen: Listen, concurrency: int) -> None:
        self._settings = settings
        self._listen = listen
        self._concurrency = concurrency
        self._in_flight = 0
        self._lanes: dict[str, Lane] = {}
        self._expected: dict[tuple[str, str], Expectation] = {}
        self._for_slots: deque[Lane] = deque()
        """Lanes whose head needs nothing but a slot, in the order they came to that."""
        self._bounds: dict[Lane, Bound] = {}
        self._told: Bound | None = None
        self._telling = False

    async def admit(self, demand: Demand, *, retry: bool = False) -> Permit:
        """Wait until a request of this size may go.

        First in, first out within its lane; retries and new jobs in turn. Raises TooLarge at once where
        the request exceeds a whole minute's limit. If cancelled, nothing has been taken.
        """
        lane = self._lane(demand)
        cost = charge(demand, self._settings.charging, self._expectation(demand).output_tokens)
        lane.check(cost)
        await lane.line.enter(retry=retry)
        try:
            await self._until_clear(lane, cost)
            return self._take(lane, demand, cost)
        finally:
            self._step_aside(lane)
            self._bounds.pop(lane, None)
            lane.line.leave()
            self._tell_bound()

    def snapshot(self) -> GateSnapshot:
        now = asyncio.get_running_loop().time()
        return GateSnapshot(
            in_flight=self._in_flight,
            lanes=tuple(
                LaneSnapshot(
                    name=lane.name,
                    waiting=lane.line.waiting,
                    limits=self._limits(lane),
                    cool_down_s=max(0.0, lane.cool_until - now),
                )
                for lane in self._lanes.values()
            ),
        )

    def free(self) -> None:
        """A slot has come back: the head that has waited longest for one may look again."""
        self._in_flight -= 1
        if self._for_slots:
            self._for_slots[0].bell.ring()

    def settle(self, demand: Demand, lane: Lane, cost: Cost, slices: Mapping[str, Slice], usage: Usage) -> None:
        if demand.max_tokens is None:
            self._expectation(demand).learn(usage.completion_tokens / demand.choices)
        if self._settings.charging == "used":
            used = {
                "tokens": usage.total_tokens - cost.tokens,
                "input_tokens": usage.prompt_tokens - cost.input_tokens,
                "output_tokens": usage.completion_tokens - cost.output_tokens,
            }
            for resource, meter in lane.meters.items():
                if resource in used and resource in slices:
                    meter.window.correct(slices[resource], used[resource])
            lane.bell.ring()

    async def _until_clear(self, lane: Lane, cost: Cost) -> None:
        loop = asyncio.get_running_loop()
        paced = False
        while True:
            now = loop.time()
            ready_at, resource = lane.ready_at(cost, now)
            if lane.cool_until > now:
                self._step_aside(lane)
                self._bound(lane, "cool_down")
                await lane.bell.wait(lane.cool_until)
            elif resource is not None:
                self._step_aside(lane)
                self._bound(lane, "requests" if resource == "requests" else "tokens")
                await lane.bell.wait(ready_at)
            elif not self._slot_free(lane):
                self._bound(lane, "in_flight")
                await self._slot(lane)
            elif not paced:
                self._step_aside(lane)
                if (slow := lane.paced(cost)) is not None:
                    self._bound(lane, "requests" if slow == "requests" else "tokens")
                await lane.pace(cost)
                paced = True
            else:
                return

    def _slot_free(self, lane: Lane) -> bool:
        first = not self._for_slots or self._for_slots[0] is lane
        return first and self._in_flight < self._concurrency

    async def _slot(self, lane: Lane) -> None:
        """Wait for news of slots, in line. The place is kept until it is taken, or left for another wait."""
        if lane not in self._for_slots:
            self._for_slots.append(lane)
        await lane.bell.wait()

    def _step_aside(self, lane: Lane) -> None:
        if lane in self._for_slots:
            self._for_slots.remove(lane)
            if self._for_slots and self._in_flight < self._concurrency:
                self._for_slots[0].bell.ring()

    def _take(self, lane: Lane, demand: Demand, cost: Cost) -> Permit:
        self._in_flight += 1
        for resource, meter in lane.meters.items():
            meter.pending += getattr(cost, resource)
        return Permit(self, lane, demand, cost, asyncio.get_running_loop().time())

    def _lane(self, demand: Demand) -> Lane:
        key = lane_key(self._settings, demand)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key, self._settings.of(demand.model))
            if lane.meters:
                limits = self._limits(lane)
                now = asyncio.get_running_loop().time()
                self._listen(LimitsKnown(at=now, lane=key, rpm=limits.rpm, tpm=limits.tpm, source="configured"))
        return lane

    def _expectation(self, demand: Demand) -> Expectation:
        return self._expected.setdefault((demand.path, demand.model), Expectation())

    def _limits(self, lane: Lane) -> LaneLimits:
        limit = {resource: meter.limit for resource, meter in lane.meters.items()}
        return LaneLimits(
            rpm=limit.get("requests"),
            tpm=limit.get("tokens"),
            input_tpm=limit.get("input_tokens"),
            output_tpm=limit.get("output_tokens"),
        )

    def _bound(self, lane: Lane, bound: Bound) -> None:
        self._bounds[lane] = bound
        self._tell_bound()

    def _tell_bound(self) -> None:
        """Once whoever is next in line has had its say: the moment between two heads is no change."""
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        """The lane that has waited longest speaks for the run."""
        self._telling = False
        bound: Bound = next(iter(self._bounds.values()), "input")
        if bound != self._told:
            self._told = bound
            self._listen(BoundBy(at=asyncio.get_running_loop().time(), bound=bound))
