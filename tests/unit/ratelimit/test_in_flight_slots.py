from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from processor.ratelimit.in_flight_slots import InFlightSlots
from processor.ratelimit.limit_group import LimitGroup
from processor.ratelimit.settings import RateLimits
from processor.simulator.virtual_clock import run


def lanes(count: int = 3) -> list[LimitGroup]:
    return [LimitGroup(str(number), RateLimits(), concurrency=10) for number in range(count)]


async def rung(lane: LimitGroup) -> bool:
    """Whether its bell rings within a second."""
    heard = asyncio.Event()
    lane.bell.listen(heard.set)
    try:
        await asyncio.wait_for(heard.wait(), 1.0)
    except TimeoutError:
        return False
    return True


def test_there_are_so_many_and_no_more() -> None:
    slots, (lane, *_) = InFlightSlots(2), lanes()
    for _ in range(2):
        assert slots.open_to(lane)
        slots.take()
    assert not slots.open_to(lane)
    slots.give()
    assert slots.open_to(lane)


def test_whoever_came_first_has_the_next_and_the_others_keep_their_places() -> None:
    slots, (first, second, third) = InFlightSlots(1), lanes()
    slots.take()
    for lane in (first, second, third, first):
        slots.join(lane)
    slots.give()
    assert [slots.open_to(lane) for lane in (first, second, third)] == [True, False, False]
    slots.leave(first)
    assert [slots.open_to(lane) for lane in (first, second, third)] == [False, True, False]


def test_a_slot_that_is_given_back_wakes_the_first_in_line_only() -> None:
    async def main() -> None:
        slots, (first, second, _) = InFlightSlots(1), lanes()
        slots.take()
        slots.join(first)
        slots.join(second)
        asyncio.get_running_loop().call_later(0.5, slots.give)
        assert await asyncio.gather(rung(first), rung(second)) == [True, False]

    run(main())


def test_whoever_leaves_the_line_wakes_the_next_if_there_is_a_slot() -> None:
    async def main() -> None:
        slots, (first, second, _) = InFlightSlots(1), lanes()
        slots.join(first)
        slots.join(second)
        asyncio.get_running_loop().call_later(0.5, slots.leave, first)
        assert await rung(second)
        slots.take()
        asyncio.get_running_loop().call_later(0.5, slots.leave, second)
        slots.join(first)
        assert not await rung(first), "there is none"

    run(main())


def test_whoever_does_not_stand_in_line_may_leave_it() -> None:
    slots, (lane, other, _) = InFlightSlots(1), lanes()
    slots.leave(lane)
    slots.join(other)
    slots.leave(lane)
    assert slots.open_to(other)
    assert not slots.open_to(lane)


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from(["join", "leave", "take", "give"]), st.integers(0, 2))))
def test_never_more_than_so_many_and_never_past_the_first_in_line(most: int, steps: list[tuple[str, int]]) -> None:
    slots, all_lanes, line = InFlightSlots(most), lanes(), []
    for step, number in steps:
        lane = all_lanes[number]
        if step == "join":
            slots.join(lane)
            line += [] if lane in line else [lane]
        elif step == "leave":
            slots.leave(lane)
            line = [other for other in line if other is not lane]
        elif step == "take" and slots.open_to(lane):
            slots.take()
        elif step == "give" and slots.in_flight:
            slots.give()
        assert 0 <= slots.in_flight <= most
        for other in all_lanes:
            allowed = slots.in_flight < most and (not line or line[0] is other)
            assert slots.open_to(other) == allowed
