"""What aiolimiter does with a fixed rate: ``python -m tests.benchmarks.fixed_rates``.

Requests are always waiting, for ten minutes of a virtual clock whose timers are late by a millisecond. Shown are the
most that any 60 seconds hold and the share of the limit that is used, for aiolimiter's bucket of several sizes and for
this program's limiter with the same limit configured.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate, cycle

from aiolimiter import AsyncLimiter

from processor.core.models import RequestSize
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.simulator import virtual_clock
from tests.benchmarks.measure import show

MINUTES = 10
TIMERS_LATE_S = 0.001

Acquire = Callable[[float], Awaitable[None]]
Grants = list[tuple[float, float]]


async def times_and_costs(
    make: Callable[[], Acquire], costs: Sequence[float], tasks: int = 50
) -> list[tuple[float, float]]:
    """When requests of these costs were granted, in turn, with so many tasks waiting."""
    loop, acquire = asyncio.get_running_loop(), make()
    granted: Grants = []
    coming = cycle(costs)

    async def take() -> None:
        while loop.time() < MINUTES * 60:
            cost = next(coming)
            await acquire(cost)
            granted.append((loop.time(), cost))

    await asyncio.gather(*(take() for _ in range(tasks)))
    return granted


def fullest_window(granted: Sequence[tuple[float, float]]) -> float:
    """The most that was granted in any 60 seconds."""
    times = [at for at, _ in granted]
    sums = [0.0, *accumulate(cost for _, cost in granted)]
    return max(sums[bisect_left(times, at + 60.0)] - sums[number] for number, at in enumerate(times))


def bucket(size: float, limit: float) -> Callable[[], Acquire]:
    """Makes an aiolimiter bucket that holds this much and refills ``limit`` a minute."""
    return lambda: AsyncLimiter(size, 60 * size / limit).acquire


def own(limits: RateLimits) -> Callable[[], Acquire]:
    """Makes this program's limiter. Every request is answered at once, by a server that reports no limits."""

    def make() -> Acquire:
        limiter = RateLimiter(LimitSettings(default=limits), emit=lambda event: None, concurrency=10_000)
        loop = asyncio.get_running_loop()

        async def acquire(cost: float) -> None:
            size = RequestSize(path="/", model="m", prompt_tokens=int(cost) - 1, prompt_chars=0, max_tokens=1)
            permit = await limiter.acquire(size, is_retry=False)
            permit.sent(loop.time())
            permit.responded(200, {}, loop.time())
            permit.release()

        return acquire

    return make


def main() -> None:
    virtual_clock.OVERSHOOT_S = TIMERS_LATE_S
    mixed = (100.0, 200.0, 100.0, 8000.0)
    cases: list[tuple[str, float, Sequence[float], Callable[[], Acquire]]] = []
    for limit in (600.0, 10_000.0):
        cases += [
            (f"AsyncLimiter({limit:g}, 60)", limit, [1.0], bucket(limit, limit)),
            (f"AsyncLimiter({limit / 240:g}, 0.25)", limit, [1.0], bucket(limit / 240, limit)),
            (f"AsyncLimiter(1, {60 / limit:g})", limit, [1.0], bucket(1, limit)),
            ("this program", limit, [1.0], own(RateLimits(rpm=limit))),
        ]
    cases += [
        ("AsyncLimiter(8000, 8), jobs of 100 to 8,000 tokens", 60_000, mixed, bucket(8000, 60_000)),
        ("this program", 60_000, mixed, own(RateLimits(tpm=60_000))),
    ]
    rows = []
    for name, limit, costs, make in cases:
        granted = virtual_clock.run(times_and_costs(make, costs))
        used = sum(cost for at, cost in granted if 60 <= at < 60 * MINUTES) / (limit * (MINUTES - 1))
        fullest = fullest_window(granted)
        rows.append([name, f"{limit:g}", f"{fullest:.0f}", f"{fullest / limit:.1%}", f"{used:.1%}"])
    show("a fixed rate", ["", "limit a minute", "most in 60 s", "of the limit", "used"], rows)


if __name__ == "__main__":
    main()
