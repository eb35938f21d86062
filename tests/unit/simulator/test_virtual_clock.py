from __future__ import annotations

import asyncio

import pytest
from aiolimiter import AsyncLimiter

from processor.simulator.virtual_clock import Deadlock, run


def test_virtual_clock_jumps_over_an_hour() -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(3600, abs=0.001)


def test_sleeping_tasks_wake_in_the_order_of_their_timers() -> None:
    woken: list[int] = []

    async def sleeper(delay_s: int) -> None:
        await asyncio.sleep(delay_s)
        woken.append(delay_s)

    async def main() -> None:
        await asyncio.gather(*(sleeper(s) for s in (30, 10, 20)))

    run(main())
    assert woken == [10, 20, 30]


def test_waiting_without_a_timer_raises_deadlock() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match="no timer is set"):
        run(main())


def test_leaky_bucket_does_not_spin_on_a_float_remainder() -> None:
    async def main() -> float:
        limiter = AsyncLimiter(1, 0.1)
        for _ in range(100):
            await limiter.acquire()
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(9.9, abs=0.01)


def test_spinning_while_no_time_passes_raises_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.simulator.virtual_clock.MAX_ITERATIONS_PER_INSTANT", 1000)

    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Deadlock, match="no time passes"):
        run(main())


def test_timer_that_is_set_for_the_present_again_and_again_comes_to_its_end() -> None:
    """As aiolimiter does where the capacity that lacks is less than what the clock shows."""

    async def main() -> float:
        loop, due_at = asyncio.get_running_loop(), 1e-8
        while loop.time() < due_at:
            waked = loop.create_future()
            loop.call_at(loop.time(), waked.set_result, None)
            await waked
        return loop.time()

    assert 1e-8 <= run(main()) < 1e-3
