"""A whole campaign on the virtual clock: the real gate, and a referee that judges every request as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from processor.events import Event
from processor.limits.gate import Gate, Permit
from processor.limits.settings import LaneLimits, LimitSettings
from processor.models import Demand
from processor.simulator.clock import run
from processor.simulator.dialects import Dialect
from processor.simulator.limits import Kind, Referee

JITTER_S = 0.1
"""Requests arrive up to so long after they were sent."""

REFUSAL_S = 0.05
TOKENS = 150
"""Of a request on average, where tokens bind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What happened, as the referee saw it."""

    referee: Referee
    attempts: int
    admitted_order: list[int]
    events: list[Event]

    @property
    def refused(self) -> int:
        return sum(self.referee.log.refused.values())

    @property
    def last_at(self) -> float:
        return self.referee.log.last_at

    def rate(self, from_s: float, to_s: float, *, tokens: bool = False) -> float:
        """What was admitted a minute, between these times."""
        return self.referee.log.spent("tokens" if tokens else "requests", from_s, to_s) / (to_s - from_s) * 60


@dataclass(kw_only=True)
class Campaign:
    """Jobs of these costs, all there from the start, against one server; headers come ``header_s`` after arrival."""

    referee: Referee
    costs: list[int]
    header_s: float = 0.2
    limits: LaneLimits = field(default_factory=LaneLimits)
    dialect: Dialect = "openai"
    seed: int = 1
    others: Iterable[tuple[float, int]] = ()
    """Requests of another program on the same key: when, and of how many tokens."""
    at: Iterable[tuple[float, Callable[[Referee], None]]] = ()
    """What happens to the server in between."""
    charged: float = 1.0
    """What the server really charges for a token of ours."""

    def play(self) -> Told:
        return run(self._play())

    async def _play(self) -> Told:
        self._loop = asyncio.get_running_loop()
        self._rng = Random(self.seed)
        self._events: list[Event] = []
        self._attempts = 0
        self._order: list[int] = []
        self._retries: asyncio.Queue[int] = asyncio.Queue()
        self._left = asyncio.Semaphore(0)
        settings = LimitSettings(default=self.limits)
        self._gate = Gate(settings, listen=self._events.append, concurrency=100_000)
        for when, happens in self.at:
            self._loop.call_at(when, happens, self.referee)
        async with asyncio.TaskGroup() as tasks:
            ends = [tasks.create_task(work) for work in (self._again(), self._company())]
            for job in range(len(self.costs)):
                await self._go(job, retry=False)
            for _ in self.costs:
                await self._left.acquire()
            for task in ends:
                task.cancel()
        return Told(referee=self.referee, attempts=self._attempts, admitted_order=self._order, events=self._events)

    async def _again(self) -> None:
        while True:
            await self._go(await self._retries.get(), retry=True)

    async def _company(self) -> None:
        for when, tokens in self.others:
            await asyncio.sleep(max(0.0, when - self._loop.time()))
            self.referee.admit(self._loop.time(), tokens, ours=False)

    async def _go(self, job: int, *, retry: bool) -> None:
        demand = Demand(path="/v1", model="m", prompt_tokens=0, prompt_chars=0, max_tokens=self.costs[job])
        permit = await self._gate.admit(demand, retry=retry)
        self._attempts += 1
        self._order.append(job)
        permit.sent(self._loop.time())
        self._loop.call_later(self._rng.uniform(0, JITTER_S), self._arrive, permit, job)

    def _arrive(self, permit: Permit, job: int) -> None:
        now = self._loop.time()
        verdict = self.referee.admit(now, max(1, round(self.costs[job] * self.charged)))
        headers = self.referee.headers(now, self.dialect)
        late_s = self.header_s * self._rng.uniform(0.75, 1.25) if verdict.ok else REFUSAL_S
        self._loop.call_later(late_s, self._answer, permit, job, verdict.retry_after_s, verdict.ok, headers)

    def _answer(self, permit: Permit, job: int, retry_after_s: float | None, ok: bool, headers: dict[str, str]) -> None:
        now = self._loop.time()
        permit.response(200 if ok else 429, headers, now)
        if not ok:
            permit.refused(retry_after_s, now)
        permit.release()
        if ok:
            self._left.release()
        else:
            self._retries.put_nowait(job)


def mixed(count: int, *, seed: int = 7, huge_up_to: int = 0) -> list[int]:
    """Costs of 60 to 240 tokens; with ``huge_up_to`` one in a hundred takes an eighth of it up to all of it."""
    rng = Random(seed)
    huge = [bool(huge_up_to) and rng.random() < 0.01 for _ in range(count)]
    return [rng.randint(huge_up_to // 8, huge_up_to) if large else rng.randint(60, 240) for large in huge]


def campaign(
    rate: int, kind: Kind, bound: str, *, minutes: float = 5.5, known: bool = True, header_s: float
) -> Campaign:
    """So many requests a minute, or so many tokens, or tokens with a few huge jobs among them."""
    count = round(rate * minutes)
    rpm, tpm = (rate, None) if bound == "requests" else (None, rate * TOKENS)
    costs = [1] * count if tpm is None else mixed(count, huge_up_to=tpm // 2 if bound == "huge" else 0)
    limits = LaneLimits(rpm=rpm, tpm=tpm) if known else LaneLimits()
    return Campaign(referee=Referee(rpm, tpm, kind=kind), costs=costs, header_s=header_s, limits=limits)


def even_s(asked: Campaign) -> float:
    """What even pacing at the limit takes."""
    limits = asked.limits
    return sum(asked.costs) / (limits.tpm or limits.rpm or 1) * 60
