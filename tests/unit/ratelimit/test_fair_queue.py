from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.ratelimit.fair_queue import FairQueue, WakeUp
from processor.simulator.virtual_clock import run


@dataclass
class One:
    number: int
    is_done: bool = False


def everybody(line: FairQueue[One]) -> list[int]:
    """Who is at the head, one after the other, until nobody is left."""
    turns = []
    while (one := line.head()) is not None:
        assert line.head() is one, "whoever is at the head stays there"
        turns.append(one.number)
        one.is_done = True
    return turns


def joined(retries: list[bool]) -> tuple[FairQueue[One], list[One]]:
    line: FairQueue[One] = FairQueue()
    ones = [One(number) for number in range(len(retries))]
    for one, retry in zip(ones, retries, strict=True):
        line.put(one, is_retry=retry)
    return line, ones


def test_whoever_comes_first_goes_first() -> None:
    assert everybody(joined([False] * 6)[0]) == [0, 1, 2, 3, 4, 5]


def test_retries_and_new_jobs_take_turns_while_both_wait() -> None:
    assert everybody(joined([False, False, False, False, True, True])[0]) == [4, 0, 5, 1, 2, 3]


def test_a_retry_that_comes_later_does_not_take_the_heads_place() -> None:
    line, (new, *_) = joined([False, False])
    assert line.head() is new
    line.put(One(2), is_retry=True)
    assert everybody(line) == [0, 2, 1]


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.lists(st.tuples(st.integers(0, 11), st.booleans())))
def test_whoever_leaves_takes_no_turn_from_another(retries: list[bool], steps: list[tuple[int, bool]]) -> None:
    line, ones = joined(retries)
    turns, left = [], set()
    for number, goes in steps:
        if goes and (head := line.head()) is not None:
            turns.append(head.number)
            head.is_done = True
        elif number < len(ones) and not ones[number].is_done:
            ones[number].is_done = True
            left.add(number)
        assert line.waiting == sum(not one.is_done for one in ones)
    turns += everybody(line)
    assert sorted([*turns, *left]) == list(range(len(ones))), "nobody else is lost, and nobody goes twice"
    for kind in (True, False):
        same = [number for number in turns if retries[number] is kind]
        assert same == sorted(same), "first in, first out"
    assert line.waiting == 0


@given(st.integers(1, 30), st.integers(1, 30))
def test_neither_starves_the_other(new: int, retries: int) -> None:
    turns = everybody(joined([False] * new + [True] * retries)[0])
    both = 2 * min(new, retries)
    assert all((turns[at] >= new) != (turns[at + 1] >= new) for at in range(both - 1))


# ------------------------------------------------------------ the bell


async def heard(ring: Callable[[WakeUp], None], until: float) -> list[float]:
    """When it is heard within a minute by one that listens until then."""
    bell, loop, times = WakeUp(), asyncio.get_running_loop(), []
    bell.schedule(lambda: times.append(loop.time()), until)
    ring(bell)
    await asyncio.sleep(60)
    return times


def at(*moments: float) -> Callable[[WakeUp], None]:
    def ring(bell: WakeUp) -> None:
        for moment in moments:
            asyncio.get_running_loop().call_at(moment, bell.fire)

    return ring


@pytest.mark.parametrize(
    ("ring", "until", "when"),
    [(at(1.0), 5.0, 1.0), (at(9.0), 5.0, 5.0), (at(), 5.0, 5.0), (at(2.0, 2.0, 3.0), 100.0, 2.0)],
)
def test_a_bell_is_armed_once_when_it_is_rung_or_at_its_moment(
    ring: Callable[[WakeUp], None], until: float, when: float
) -> None:
    assert run(heard(ring, until)) == [pytest.approx(when, abs=1e-3)]


def test_it_is_not_heard_in_the_middle_of_what_rings_it() -> None:
    async def main() -> list[str]:
        bell, order = WakeUp(), []
        bell.schedule(lambda: order.append("heard"))
        bell.fire()
        bell.fire()
        order.append("rung")
        await asyncio.sleep(1)
        return order

    assert run(main()) == ["rung", "heard"]


@pytest.mark.parametrize("until", [1.0, 5.0])
def test_whoever_listens_anew_is_armed_then_only(until: float) -> None:
    async def main() -> list[float]:
        bell, loop, times = WakeUp(), asyncio.get_running_loop(), []
        bell.schedule(lambda: times.append(-1.0), 2.0)
        bell.schedule(lambda: times.append(loop.time()), until)
        assert bell.is_armed
        await asyncio.sleep(60)
        assert not bell.is_armed
        return times

    assert run(main()) == [pytest.approx(until, abs=1e-3)]


def test_a_bell_may_ring_to_nobody() -> None:
    async def main() -> list[float]:
        bell, times = WakeUp(), []
        bell.fire()
        bell.schedule(lambda: times.append(0.0), 5.0)
        bell.cancel()
        bell.fire()
        await asyncio.sleep(60)
        return times

    assert run(main()) == []
