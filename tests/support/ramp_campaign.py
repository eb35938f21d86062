"""Runs at a server that answers so many requests at a time and lets the others wait, on the virtual clock.

The limiter and its control of the number in flight are the real ones. ``tests/benchmarks/ramp.py --virtual`` makes the
table of all runs.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from processor.core.events import ConcurrencyChanged, RunEvent
from processor.core.models import Usage
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.permit import Permit
from processor.ratelimit.settings import LimitSettings
from processor.ratelimit.strategies.concurrency_controller import INITIAL_CONCURRENCY
from processor.simulator.virtual_clock import run
from tests.support.limiter_simulation import request_size

FIRST_TOKEN_SHARE = 1 / 12
"""Of the time of a reply, until its response starts."""
CROWDED = 1.3
"""Times the time of a reply: above this too many are in flight."""
TOKENS = 100
MAX_IN_FLIGHT = 10_000


@dataclass(kw_only=True)
class RampRun:
    """``given``: the number in flight; None: auto. ``jitter``: the share by which the time of a reply varies.
    ``capacity_at``: the requests answered at a time, at a time of the run."""

    jobs: int
    reply_s: float
    capacity_at: Callable[[float], int]
    given: int | None = None
    jitter: float = 0.1
    seed: int = 0
    is_floor: bool = False
    """Whether all are sent at once: the server alone bounds the run."""
    events: list[RunEvent] = field(default_factory=list)
    in_flight: list[tuple[float, int]] = field(default_factory=list)
    """How many were in flight, at the end of each reply."""
    wall_s: float = 0.0
    crowded_s: float = 0.0
    """How long the replies of the last reply time took more than `CROWDED` times as long as alone, in the mean."""

    def run(self) -> RampRun:
        run(self._run())
        return self

    @property
    def reasons(self) -> set[str]:
        return {event.reason for event in self.events if isinstance(event, ConcurrencyChanged)}

    async def _run(self) -> None:
        self._rng, self._loop = Random(self.seed), asyncio.get_running_loop()
        self._waiting: deque[tuple[Permit, float]] = deque()
        self._busy = 0
        self._left = self.jobs
        self._done = self._loop.create_future()
        self._last_waits: deque[tuple[float, float]] = deque()
        settings = LimitSettings(
            concurrency_is_fixed=self.given is not None or self.is_floor, first_alone_s=0.0 if self.is_floor else 2.0
        )
        limiter = RateLimiter(settings, emit=self.events.append, concurrency=self.given or MAX_IN_FLIGHT)
        for _ in range(self.jobs):
            permit = await limiter.acquire(request_size(TOKENS), is_retry=False)
            permit.sent(self._loop.time())
            self._waiting.append((permit, self._loop.time()))
            self._serve()
        await self._done
        self.wall_s = self._loop.time()

    def _serve(self) -> None:
        while self._waiting and self._busy < self.capacity_at(self._loop.time()):
            permit, sent_at = self._waiting.popleft()
            self._busy += 1
            reply_s = self.reply_s * self._rng.uniform(1 - self.jitter, 1 + self.jitter)
            self._loop.call_later(reply_s * FIRST_TOKEN_SHARE, self._start, permit)
            self._loop.call_later(reply_s, self._end, permit, self._loop.time() - sent_at)

    def _start(self, permit: Permit) -> None:
        permit.responded(200, {}, self._loop.time())
        permit.first_token(self._loop.time())

    def _end(self, permit: Permit, waited_s: float) -> None:
        now = self._loop.time()
        self.in_flight.append((now, self._busy + len(self._waiting)))
        self._count_crowded(now, waited_s)
        self._busy -= 1
        self._left -= 1
        permit.settled(Usage(prompt_tokens=0, completion_tokens=TOKENS), now)
        permit.release()
        self._serve()
        if not self._left:
            self._done.set_result(None)

    def _count_crowded(self, now: float, waited_s: float) -> None:
        last_at = self._last_waits[-1][0] if self._last_waits else 0.0
        self._last_waits.append((now, waited_s))
        while self._last_waits[0][0] <= now - self.reply_s:
            self._last_waits.popleft()
        if sum(waited_s for _, waited_s in self._last_waits) > (CROWDED - 1) * self.reply_s * len(self._last_waits):
            self.crowded_s += now - last_at


def ramp_run(jobs: int, reply_s: float, capacity: int, *, given: int | None) -> tuple[RampRun, float]:
    """A run, and its bound. The floor is the same run with the best number in flight from the start."""
    best = min(jobs, capacity)
    run = RampRun(jobs=jobs, reply_s=reply_s, capacity_at=lambda _: capacity, given=given).run()
    canary_s = FIRST_TOKEN_SHARE * reply_s
    floor_s = RampRun(jobs=jobs, reply_s=reply_s, capacity_at=lambda _: capacity, is_floor=True).run().wall_s
    if given is not None:
        return run, 1.03 * floor_s + 0.5 + canary_s * 1.1
    return run, 1.1 * floor_s + max(0.0, math.log2(best / INITIAL_CONCURRENCY)) * reply_s + 0.5
