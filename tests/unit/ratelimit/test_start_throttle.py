"""The starts of requests are spaced, and those that wait keep their order."""

from __future__ import annotations

import asyncio

from processor.ratelimit.start_throttle import MAX_STARTS_PER_10_MS, StartThrottle
from processor.simulator.virtual_clock import run


async def starts(count: int) -> list[tuple[float, int]]:
    """When each of so many requests starts that come at once, in the order in which they start."""
    loop, throttle = asyncio.get_running_loop(), StartThrottle()
    began, started = loop.time(), []

    async def start(number: int) -> None:
        if not throttle.is_free(loop.time()):
            await throttle.wait_for_turn()
        started.append((loop.time() - began, number))

    await asyncio.gather(*map(start, range(count)))
    return started


def test_first_ones_start_at_once_and_the_others_one_by_one_in_their_order() -> None:
    started = run(starts(3 * MAX_STARTS_PER_10_MS))
    assert [number for _, number in started] == list(range(3 * MAX_STARTS_PER_10_MS))
    assert sum(at_s == 0 for at_s, _ in started) <= MAX_STARTS_PER_10_MS + 1
    assert 0.019 < started[-1][0] < 0.021


def test_a_start_does_not_overtake_those_that_wait() -> None:
    async def scenario() -> list[str]:
        throttle, order = StartThrottle(), []
        loop = asyncio.get_running_loop()
        assert all(throttle.is_free(loop.time()) for _ in range(MAX_STARTS_PER_10_MS))

        async def wait() -> None:
            await throttle.wait_for_turn()
            order.append("waited")

        waiting = [asyncio.create_task(wait()) for _ in range(MAX_STARTS_PER_10_MS * 2)]
        await asyncio.sleep(0.011)  # the next 10 ms have begun
        if not throttle.is_free(loop.time()):
            await throttle.wait_for_turn()
        order.append("came later")
        await asyncio.gather(*waiting)
        return order

    assert run(scenario())[-1] == "came later"
