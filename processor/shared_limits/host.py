"""The far end: holds the rate limiter and the budgets, and grants permits to the sessions that ask for them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from processor.cluster.grouping import MessageGroups, group_interval_s
from processor.cluster.messages import decode, encode_info
from processor.cluster.program_version import own_info
from processor.core.errors import ConfigError
from processor.core.events import LimitsChanged, RunEvent
from processor.cost.budget import BudgetReservation
from processor.ratelimit.limit_group import TooLarge
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.permit import Permit
from processor.shared_limits.link import LimiterLost
from processor.shared_limits.messages import (
    AcquirePermit,
    BudgetSettled,
    BudgetSpent,
    FromLimiter,
    GroupHeldBack,
    LimiterOpening,
    LimiterReported,
    PermitDenied,
    PermitGranted,
    PermitReleased,
    PermitResponded,
    PermitSent,
    PermitSettled,
    PermitThrottled,
    ToLimiter,
    decode_group,
    encode_group,
)
from processor.shared_limits.shared_budget import SharedBudget

HEARTBEAT_S = 5.0
"""A call of ``pull`` returns after this time at the latest."""
LOST_AFTER_S = 15.0
"""A session that has made no further call of ``pull`` for so long is lost."""
IDLE_AFTER_S = 120.0
"""Without a session for so long the limiter is not needed: no server counts over more than a minute."""
MAX_CONCURRENCY = 1_000_000
"""Requests in flight over all sessions, where no number is given: their processes bound them."""


@dataclass(slots=True, eq=False)
class _Request:
    """A request of a session, from its first message until it is released."""

    permit: Permit | None = None
    """None while it waits."""
    waits: asyncio.Task[None] | None = None
    reserved: BudgetReservation | None = None
    is_sent: bool = False


@dataclass(slots=True, eq=False)
class _Session:
    name: str
    budget: SharedBudget | None
    messages: MessageGroups[FromLimiter]
    requests: dict[int, _Request] = field(default_factory=dict)
    gives_up: asyncio.TimerHandle | None = None
    """Runs while no call of ``pull`` does."""


class LimiterHost:
    """Shares one rate limiter. Use it from one event loop.

    | call       | takes                                    | returns                                       |
    |------------|------------------------------------------|-----------------------------------------------|
    | `describe` | nothing                                  | a WorkerInfo, as JSON                         |
    | `open`     | a LimiterOpening                         | how many sessions there are, as JSON          |
    | `push`     | a session, a list of ToLimiter messages  | nothing                                       |
    | `pull`     | a session                                | a list of FromLimiter messages, after a time  |
    | `leave`    | a session                                | nothing                                       |
    """

    def __init__(self, *, node: str) -> None:
        self._node = node
        self._opening: LimiterOpening | None = None
        """That of the first session."""
        self._limiter: RateLimiter
        self._sessions: dict[str, _Session] = {}
        self._budgets: dict[str, SharedBudget] = {}
        self._limits: dict[str, LimitsChanged] = {}
        """The last event of each limit group, for sessions that come later."""
        self._idle_timer: asyncio.TimerHandle | None = None
        self._is_idle = asyncio.Event()

    async def idle(self) -> None:
        """Return when there has been no session for IDLE_AFTER_S."""
        self._watch_idleness()
        await self._is_idle.wait()

    async def describe(self) -> bytes:
        return encode_info(own_info(self._node))

    async def open(self, opening: bytes) -> bytes:
        """Raises ConfigError where other sessions use the key with other limits."""
        given: LimiterOpening = decode(opening)
        self._use_limits_of(given)
        budget = None
        if given.budget is not None:
            budget = self._budgets.setdefault(given.budget.name, SharedBudget(given.budget.limit_pico))
            budget.join(given.session, given.budget)
        interval_s = group_interval_s(len(self._sessions) + 1)
        session = self._sessions[given.session] = _Session(given.session, budget, MessageGroups(interval_s))
        for event in self._limits.values():
            session.messages.add(LimiterReported(event))
        self._expect_pull(session)
        self._watch_idleness()
        return json.dumps(len(self._sessions)).encode()

    def _use_limits_of(self, given: LimiterOpening) -> None:
        first = self._opening
        if first is None or not self._sessions:
            if first is None or (first.limits, first.concurrency) != (given.limits, given.concurrency):
                concurrency = given.concurrency or MAX_CONCURRENCY
                self._limiter = RateLimiter(given.limits, emit=self._report, concurrency=concurrency)
                self._limits.clear()
            self._opening = given
        elif (first.limits, first.concurrency) != (given.limits, given.concurrency):
            limits, number = first.limits.default, first.concurrency or "auto"
            raise ConfigError(
                "another session in this cluster uses the same key with other limits: "
                f"give both the same (there rpm {limits.rpm}, tpm {limits.tpm}, concurrency {number})"
            )

    async def push(self, name: str, group: bytes) -> None:
        session = self._sessions.get(name)
        if session is None:
            return
        for message in decode_group(group, asyncio.get_running_loop().time()):
            self._on_message(session, message)

    async def pull(self, name: str) -> bytes:
        """Raises LimiterLost to a session that was given up: it must open itself again."""
        session = self._sessions.get(name)
        if session is None:
            raise LimiterLost("it has taken this session for lost")
        if session.gives_up is not None:
            session.gives_up.cancel()
        messages = await session.messages.take(within_s=HEARTBEAT_S)
        if self._sessions.get(name) is session:
            self._expect_pull(session)
        return encode_group(messages, asyncio.get_running_loop().time())

    async def leave(self, name: str) -> None:
        if (session := self._sessions.get(name)) is not None:
            self._end(session)

    # ------------------------------------------------------------ permits

    def _on_message(self, session: _Session, message: ToLimiter) -> None:
        if isinstance(message, AcquirePermit):
            request = session.requests[message.number] = _Request()
            request.waits = asyncio.create_task(self._admit(session, request, message))
            return
        known = session.requests.get(message.number)
        if known is None:
            return
        if isinstance(message, PermitReleased):
            del session.requests[message.number]
            self._release(session, known, has_responded=message.has_responded)
        elif isinstance(message, BudgetSettled):
            if session.budget is not None and known.reserved is not None:
                session.budget.settle(session.name, known.reserved, message.pico)
        elif known.permit is not None:
            _report_to_permit(known, known.permit, message)

    async def _admit(self, session: _Session, request: _Request, asked: AcquirePermit) -> None:
        """Wait until the request may be sent, and say so."""
        try:
            if session.budget is not None and asked.worst_pico is not None:
                request.reserved = await session.budget.reserve(asked.worst_pico)
            permit = await self._limiter.acquire(asked.size, is_retry=asked.is_retry)
        except (TooLarge, BudgetSpent) as error:
            session.requests.pop(asked.number, None)
            self._release(session, request, has_responded=False)
            session.messages.add(PermitDenied(asked.number, error))
            return
        request.permit = permit
        session.messages.add(PermitGranted(asked.number, permit.cost, permit.limit_group, permit.granted_at))

    def _release(self, session: _Session, request: _Request, *, has_responded: bool) -> None:
        if request.permit is not None:
            if has_responded:
                request.permit.refused_alone()
            request.permit.release()
        elif request.waits is not None and request.waits is not asyncio.current_task():
            request.waits.cancel()
        if session.budget is not None and request.reserved is not None:
            session.budget.end(session.name, request.reserved, may_be_billed=request.is_sent)

    # ------------------------------------------------------------ sessions

    def _expect_pull(self, session: _Session) -> None:
        if session.gives_up is not None:
            session.gives_up.cancel()
        session.gives_up = asyncio.get_running_loop().call_later(LOST_AFTER_S, self._end, session)

    def _end(self, session: _Session) -> None:
        """The session has left, or is lost. What it had in flight counts as sent, and may be billed."""
        if self._sessions.get(session.name) is not session:
            return
        del self._sessions[session.name]
        if session.gives_up is not None:
            session.gives_up.cancel()
        requests = list(session.requests.values())
        session.requests.clear()
        for request in requests:
            # A permit that was granted may have been used since the session was last heard of.
            if request.permit is not None and not request.is_sent:
                request.is_sent = True
                request.permit.sent(asyncio.get_running_loop().time())
            self._release(session, request, has_responded=False)
        self._leave_budget(session)
        self._watch_idleness()

    def _leave_budget(self, session: _Session) -> None:
        """Without a session a budget is forgotten: the next one reads what was spent from its files."""
        for name, budget in list(self._budgets.items()):
            budget.files.pop(session.name, None)
            if not budget.files:
                del self._budgets[name]

    def _watch_idleness(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if not self._sessions:
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_AFTER_S, self._is_idle.set)

    def _report(self, event: RunEvent) -> None:
        if isinstance(event, LimitsChanged):
            self._limits[event.limit_group] = event
        for session in self._sessions.values():
            session.messages.add(LimiterReported(event))


def _report_to_permit(request: _Request, permit: Permit, message: ToLimiter) -> None:
    match message:
        case PermitSent(_, at):
            request.is_sent = True
            permit.sent(at)
        case PermitResponded(_, status, headers, at):
            permit.responded(status, headers, at)
        case PermitThrottled(_, retry_after_s, at):
            permit.throttled(429, {}, retry_after_s, at)
        case GroupHeldBack(_, wait_s, at):
            permit.hold_back(wait_s, at)
        case PermitSettled(_, usage, at):
            permit.settled(usage, at)
