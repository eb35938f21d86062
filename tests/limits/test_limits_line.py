from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.limits.line import Bell, Line
from processor.simulator.clock import run


async def crowd(
    retries: list[bool], cancelled: dict[int, int], *, holds: int = 2
) -> tuple[list[int], list[asyncio.Task[None]], Line]:
    """Everybody comes at once, in this order, and holds their turn for some breaths. ``cancelled``: who, and after
    how many breaths. Returns who had a turn."""
    line, turns = Line(), []
    inside = 0

    async def one(number: int, retry: bool) -> None:
        nonlocal inside
        await line.enter(retry=retry)
        try:
            inside += 1
            assert inside == 1, "one at a time"
            turns.append(number)
            for _ in range(holds):
                await asyncio.sleep(0)
        finally:
            inside -= 1
            line.leave()

    tasks = [asyncio.create_task(one(number, retry)) for number, retry in enumerate(retries)]
    for breath in range(1 + max([*cancelled.values(), 0])):
        for number, at in cancelled.items():
            if at == breath:
                tasks[number].cancel()
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1.0)
    return turns, tasks, line


def test_whoever_comes_first_goes_first() -> None:
    turns, _, line = run(crowd([False] * 6, {}))
    assert turns == [0, 1, 2, 3, 4, 5]
    assert not line.busy


def test_retries_and_new_jobs_take_turns_while_both_wait() -> None:
    turns, _, _ = run(crowd([False, False, False, False, True, True], {}))
    assert turns == [0, 4, 1, 5, 2, 3]


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.dictionaries(st.integers(0, 11), st.integers(0, 40)))
def test_whoever_is_cancelled_whenever_takes_no_turn_from_another(retries: list[bool], gone: dict[int, int]) -> None:
    gone = {number: at for number, at in gone.items() if number < len(retries)}
    turns, tasks, line = run(crowd(retries, gone))
    stayed = {number for number in range(len(retries)) if number not in gone}
    assert stayed <= set(turns), "nobody else is lost"
    assert all(tasks[number].exception() is None for number in stayed)
    for kind in (True, False):
        same = [number for number in turns if retries[number] is kind]
        assert same == sorted(same), "first in, first out"
    assert not line.busy
    assert line.waiting == 0


@given(st.integers(1, 30), st.integers(1, 30))
def test_neither_starves_the_other(new: int, retries: int) -> None:
    turns, _, _ = run(crowd([False] * new + [True] * retries, {}))
    both = 1 + 2 * min(new - 1, retries)
    assert all((turns[at] >= new) != (turns[at + 1] >= new) for at in range(both - 1))


def test_whoever_waits_is_counted_and_whoever_has_gone_is_not() -> None:
    async def main() -> None:
        line = Line()
        await line.enter(retry=False)
        waiting = [asyncio.create_task(line.enter(retry=retry)) for retry in (True, False)]
        await asyncio.sleep(0)
        assert line.waiting == 3
        waiting[0].cancel()
        await asyncio.sleep(0)
        assert line.waiting == 2
        line.leave()
        await waiting[1]
        assert line.waiting == 1
        line.leave()
        assert line.waiting == 0

    run(main())


def test_whoever_is_cancelled_in_the_moment_of_their_turn_hands_it_on() -> None:
    async def main() -> None:
        line = Line()
        await line.enter(retry=False)
        called, waiting = (asyncio.create_task(line.enter(retry=False)) for _ in range(2))
        await asyncio.sleep(0)
        line.leave()
        called.cancel()
        await waiting
        assert line.waiting == 1

    run(main())


# ------------------------------------------------------------ the bell


def heard_at(work: Coroutine[Any, Any, float]) -> float:
    return run(work)


@pytest.mark.parametrize(("rung_at", "until", "heard"), [(1.0, 5.0, 1.0), (9.0, 5.0, 5.0)])
def test_a_bell_wakes_when_it_is_rung_or_at_its_moment(rung_at: float, until: float, heard: float) -> None:
    async def main() -> float:
        bell, loop = Bell(), asyncio.get_running_loop()
        loop.call_at(rung_at, bell.ring)
        await bell.wait(until)
        return loop.time()

    assert heard_at(main()) == pytest.approx(heard, abs=1e-3)


def test_a_bell_may_ring_often_and_to_nobody() -> None:
    async def main() -> float:
        bell, loop = Bell(), asyncio.get_running_loop()
        bell.ring()
        loop.call_at(2.0, bell.ring)
        loop.call_at(2.0, bell.ring)
        await bell.wait()
        bell.ring()
        return loop.time()

    assert heard_at(main()) == pytest.approx(2.0, abs=1e-3)


def test_a_wait_that_is_cancelled_leaves_no_timer() -> None:
    async def main() -> float:
        bell, loop = Bell(), asyncio.get_running_loop()
        waiting = asyncio.create_task(bell.wait(50.0))
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await bell.wait(60.0)
        return loop.time()

    assert heard_at(main()) == pytest.approx(60.0, abs=1e-3)
