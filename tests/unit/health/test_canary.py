"""Requests are sent one at a time until one has been understood."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from processor.health.canary import TIMEOUT_WITH_KEY_S, TIMEOUT_WITHOUT_KEY_S, Canary
from processor.simulator.virtual_clock import run


def play(main: Coroutine[Any, Any, None]) -> None:
    async def with_turn() -> None:
        await main

    run(with_turn())


async def started(canary: Canary, count: int = 4) -> list[asyncio.Task[None]]:
    """Requests that want a turn."""
    waiting = [asyncio.create_task(canary.acquire()) for _ in range(count)]
    await asyncio.sleep(0.01)
    return waiting


def have_turn(waiting: list[asyncio.Task[None]]) -> int:
    return sum(task.done() for task in waiting)


def test_next_request_follows_the_end_of_the_one_before() -> None:
    async def main() -> None:
        canary = Canary(2.0)
        waiting = await started(canary)
        for number in range(1, 5):
            assert have_turn(waiting) == number
            canary.on_sent()
            canary.on_refused()
            canary.release()
            await asyncio.sleep(100.0)

    play(main())


def test_all_follow_once_something_is_understood() -> None:
    async def main() -> None:
        canary = Canary(2.0)
        waiting = await started(canary)
        canary.on_understood()
        await asyncio.sleep(0.01)
        assert have_turn(waiting) == 4
        canary.on_refused()
        assert canary.is_cleared, "for good"

    play(main())


@pytest.mark.parametrize("timeout_s", [TIMEOUT_WITH_KEY_S, TIMEOUT_WITHOUT_KEY_S])
def test_all_follow_after_the_timeout_without_a_refusal(timeout_s: float) -> None:
    async def main() -> None:
        canary = Canary(timeout_s)
        waiting = await started(canary)
        canary.on_sent()
        await asyncio.sleep(timeout_s - 0.1)
        assert have_turn(waiting) == 1
        await asyncio.sleep(0.2)
        assert have_turn(waiting) == 4

    play(main())


def test_refusal_after_the_timeout_lets_requests_go_one_at_a_time_again() -> None:
    async def main() -> None:
        canary = Canary(2.0)
        waiting = await started(canary, 3)
        canary.on_sent()
        await asyncio.sleep(3.0)
        assert have_turn(waiting) == 3
        canary.on_refused()
        more = await started(canary, 2)
        for _ in range(2):
            canary.release()
            await asyncio.sleep(10.0)
            assert have_turn(more) == 0, "others are still in flight"
        canary.release()
        await asyncio.sleep(10.0)
        assert have_turn(more) == 1

    play(main())


def test_cancelled_request_passes_its_turn_on() -> None:
    async def main() -> None:
        canary = Canary(2.0)
        waiting = await started(canary, 3)
        waiting[1].cancel()
        canary.release()
        waiting[2].cancel()  # it has just got the turn, and has not run since
        await asyncio.sleep(0.01)
        assert all(task.cancelled() for task in waiting[1:])
        (last,) = await started(canary, 1)
        assert last.done()

    play(main())


def test_request_that_comes_in_the_moment_of_the_first_reply_does_not_overtake_those_that_wait() -> None:
    async def main() -> None:
        canary = Canary(2.0)
        order: list[str] = []

        async def request(name: str) -> None:
            if not canary.is_over:
                await canary.acquire()
            order.append(name)

        await canary.acquire()
        names = ["second", "third", "late"]
        tasks = [asyncio.create_task(request(name)) for name in names[:2]]
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(request("late")))  # runs before those that are woken now
        canary.on_understood()
        await asyncio.gather(*tasks)
        assert order == names
        assert canary.is_over

    play(main())
