"""The session's end: a limiter whose permits are granted in another process."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from processor.cluster.grouping import MessageGroups, group_interval_s
from processor.cluster.messages import decode_info, encode
from processor.cluster.worker_pool import version_problem
from processor.core.errors import ConfigError
from processor.core.events import LimitsChanged, Listener
from processor.core.models import Job, RequestSize
from processor.cost.budget import Budget, BudgetReservation
from processor.endpoints.budget_gate import BudgetExhausted, UnknownCost
from processor.endpoints.endpoint import BudgetedPermit, EndpointClosed
from processor.ratelimit.permit import Permit
from processor.ratelimit.reservation import cost_by_resource
from processor.ratelimit.settings import RateLimits, limit_group_key
from processor.ratelimit.snapshot import LimiterSnapshot, LimitGroupSnapshot
from processor.shared_limits.link import ConnectLimiter, LimiterLink, LimiterLost, answer_of
from processor.shared_limits.messages import (
    AcquirePermit,
    BudgetSettled,
    BudgetSpent,
    FromLimiter,
    LimiterOpening,
    LimiterReported,
    PermitDenied,
    PermitGranted,
    PermitReleased,
    ToLimiter,
    decode_group,
    encode_group,
)
from processor.shared_limits.remote_permit import NumberedReservation, RemoteGroup, ToldReservation, WaitingForPermit

MAX_LOSSES = 5
"""After so many losses, one after the other and without a permit in between, the session sends nothing more."""
RECONNECT_AFTER_S = 1.0


class SharedLimiter:
    """A ``Limiter`` of another process.

    ``emit`` takes the events of the limiter. ``on_unusable`` is called with the reason once no permit can be had any
    more. ``worst_pico``: the most that a request can cost, in a session with a ``budget``; the shared one decides, and
    this one counts what the session itself has spent. ``spent_elsewhere``: what other files of the budget tell.
    """

    def __init__(
        self,
        connect: ConnectLimiter,
        opening: LimiterOpening,
        *,
        max_in_flight: int,
        emit: Listener,
        on_unusable: Callable[[str], None],
        budget: Budget | None = None,
        worst_pico: Callable[[RequestSize], int | None] | None = None,
        spent_elsewhere: Callable[[], Awaitable[Mapping[str, int]]] | None = None,
    ) -> None:
        self._connect = connect
        self._opening = opening
        self._emit = emit
        self._on_unusable = on_unusable
        self._budget = budget
        self._worst_pico = worst_pico
        self._spent_elsewhere = spent_elsewhere
        self._slots = asyncio.Semaphore(max_in_flight)
        self._last_number = 0
        self._first_number = 1
        """Of the permits that the limiter knows: those before it were of one that is lost."""
        self._waiting: dict[int, WaitingForPermit] = {}
        self._in_flight = 0
        self._messages: MessageGroups[ToLimiter] = MessageGroups(group_interval_s(1))
        self._groups: dict[str, RemoteGroup] = {}
        self._limits: dict[str, RateLimits] = {}
        self._link: LimiterLink | None = None
        self._task: asyncio.Task[None] | None = None
        self._losses = 0
        self._unusable: str | None = None

    # ------------------------------------------------------------ Limiter

    async def acquire(self, size: RequestSize, *, is_retry: bool) -> Permit:
        """Wait until a request of this size may be sent.

        Raises TooLarge, UnknownCost and BudgetExhausted where it never will be, and EndpointClosed where the limiter
        cannot be reached. If the wait is cancelled, nothing has been taken.
        """
        worst_pico = self._worst_pico_of(size)
        await self._slots.acquire()
        try:
            granted = await self._granted(size, worst_pico, is_retry=is_retry)
        except BaseException:
            self._slots.release()
            raise
        self._in_flight += 1
        reserved = None if worst_pico is None else self._reserve(granted.number, worst_pico)
        reservation = NumberedReservation(
            granted.cost, cost_by_resource(granted.cost), granted.at, number=granted.number, reserved=reserved
        )
        permit = Permit(self._group(granted.limit_group), size, reservation, self._on_released)
        return permit if reserved is None else BudgetedPermit(permit, reserved)

    @property
    def counts_characters(self) -> bool:
        return self._opening.limits.counts_characters

    def group_name(self, job: Job) -> str:
        return limit_group_key(self._opening.limits, job)

    def cool_down_s(self, job: Job) -> float:
        """Always 0: the requests of a group that is held back wait in the other process."""
        return 0.0

    def next_start_at(self) -> float | None:
        """None: the other process knows."""

    def snapshot(self) -> LimiterSnapshot:
        """Of this session alone."""
        waiting = Counter(limit_group_key(self._opening.limits, one.size) for one in self._waiting.values())
        return LimiterSnapshot(
            in_flight=self._in_flight,
            limit_groups=tuple(
                LimitGroupSnapshot(
                    name=name, waiting=waiting[name], limits=self._limits.get(name, RateLimits()), cool_down_s=0.0
                )
                for name in dict.fromkeys((*self._groups, *self._limits, *waiting))
            ),
        )

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._link is None:
            return
        with suppress(LimiterLost):
            last = await self._messages.take(within_s=0.0)
            await answer_of(self._link.push(self._opening.session, encode_group(last, _now())))
            await answer_of(self._link.leave(self._opening.session))

    # ------------------------------------------------------------ requests

    def _worst_pico_of(self, size: RequestSize) -> int | None:
        if self._worst_pico is None:
            return None
        worst_pico = self._worst_pico(size)
        if worst_pico is None:
            raise UnknownCost(f"not sent, since no price is known for {size.model!r}, or its worst case is unknown")
        return worst_pico

    async def _granted(self, size: RequestSize, worst_pico: int | None, *, is_retry: bool) -> PermitGranted:
        if self._unusable is not None:
            raise EndpointClosed(self._unusable)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="processor.SharedLimiter")
        waiting = WaitingForPermit(size, is_retry, worst_pico, asyncio.get_running_loop().create_future())
        self._ask(waiting)
        try:
            return await waiting.granted
        except asyncio.CancelledError:
            self._withdraw(waiting)
            raise
        except BudgetSpent as error:
            raise BudgetExhausted(str(error)) from None

    def _ask(self, waiting: WaitingForPermit) -> None:
        self._last_number += 1
        waiting.number = self._last_number
        self._waiting[self._last_number] = waiting
        size = replace(waiting.size.as_known_now(), recount=None)  # which no message can hold
        self._messages.add(AcquirePermit(self._last_number, size, waiting.is_retry, waiting.worst_pico))

    def _withdraw(self, waiting: WaitingForPermit) -> None:
        """Give the permit up, whether it was granted in the meantime or not."""
        if self._waiting.pop(waiting.number, None) is not None or not waiting.granted.cancelled():
            self.tell(PermitReleased(waiting.number, has_responded=False))

    def _on_released(self) -> None:
        self._in_flight -= 1
        self._slots.release()

    def _reserve(self, number: int, worst_pico: int) -> BudgetReservation:
        assert self._budget is not None
        return ToldReservation(self._budget, worst_pico, lambda pico: self.tell(BudgetSettled(number, pico)))

    def _group(self, name: str) -> RemoteGroup:
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = RemoteGroup(name, self.tell)
        return group

    def tell(self, message: ToLimiter) -> None:
        """Pass on what happened to a permit."""
        if message.number >= self._first_number and self._unusable is None:
            self._messages.add(message)

    # ------------------------------------------------------------ the link

    async def _run(self) -> None:
        """Keep up the link for as long as the session lives."""
        while True:
            try:
                await self._serve()
            except ConfigError as error:
                self._give_up(str(error))
                return
            except LimiterLost as error:
                self._losses += 1
                if self._losses >= MAX_LOSSES:
                    self._give_up(f"the shared limiter was lost {self._losses} times, one after the other: {error}")
                    return
                await asyncio.sleep(RECONNECT_AFTER_S)
            except Exception as error:  # noqa: BLE001 - a mistake of this program: those who wait must not go on waiting
                self._give_up(f"internal error at the shared limiter: {type(error).__name__}: {error}")
                return

    async def _serve(self) -> None:
        """Open the link, ask for what has not been granted, and pass messages. Raises LimiterLost and ConfigError."""
        self._link = None
        link = await self._connect()
        if (problem := version_problem(decode_info(await answer_of(link.describe())))) is not None:
            raise ConfigError(problem)
        sessions = json.loads(await answer_of(link.open(encode(await self._opening_now()))))
        self._messages = MessageGroups(group_interval_s(sessions))
        self._first_number = self._last_number + 1
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            self._ask(one)
        self._link = link
        tasks = [asyncio.create_task(self._push(link)), asyncio.create_task(self._pull(link))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _opening_now(self) -> LimiterOpening:
        """What may be spent for requests that are in flight counts as spent before."""
        if (opening := self._opening).budget is None or self._budget is None:
            return opening
        elsewhere = {} if self._spent_elsewhere is None else await self._spent_elsewhere()
        own = {opening.budget.file: self._budget.spent_pico + self._budget.reserved_pico}
        return replace(opening, budget=replace(opening.budget, spent_pico={**elsewhere, **own}))

    async def _push(self, link: LimiterLink) -> None:
        while True:
            await answer_of(link.push(self._opening.session, encode_group(await self._messages.take(), _now())))

    async def _pull(self, link: LimiterLink) -> None:
        while True:
            group = await answer_of(link.pull(self._opening.session))
            for message in decode_group(group, _now()):
                self._on_message(message)

    def _on_message(self, message: FromLimiter) -> None:
        if isinstance(message, LimiterReported):
            if isinstance(message.event, LimitsChanged):
                event = message.event
                self._limits[event.limit_group] = RateLimits(rpm=event.rpm, tpm=event.tpm)
            self._emit(message.event)
            return
        waiting = self._waiting.pop(message.number, None)
        if waiting is None:
            return
        if waiting.granted.done():  # it was cancelled in this moment, and does not know of the permit
            self.tell(PermitReleased(message.number, has_responded=False))
            return
        self._losses = 0
        if isinstance(message, PermitDenied):
            waiting.granted.set_exception(message.error)
        else:
            waiting.granted.set_result(message)

    def _give_up(self, reason: str) -> None:
        self._unusable = reason
        self._on_unusable(reason)
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            if not one.granted.done():
                one.granted.set_exception(EndpointClosed(reason))


def _now() -> float:
    return asyncio.get_running_loop().time()
