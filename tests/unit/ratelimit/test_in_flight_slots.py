from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from processor.ratelimit.in_flight_slots import InFlightSlots
from processor.ratelimit.wake_up import WakeUp
from processor.simulator.virtual_clock import run


def three_waiters() -> list[WakeUp]:
    return [WakeUp() for _ in range(3)]


async def is_woken(waiter: WakeUp) -> bool:
    """Whether the waiter is woken within a second."""
    woken = asyncio.Event()
    waiter.schedule(woken.set)
    try:
        await asyncio.wait_for(woken.wait(), 1.0)
    except TimeoutError:
        return False
    return True


def test_slots_are_available_up_to_the_capacity() -> None:
    slots, waiter = InFlightSlots(2), WakeUp()
    for _ in range(2):
        assert slots.available_to(waiter)
        slots.acquire(WakeUp())
    assert not slots.available_to(waiter)
    slots.release()
    assert slots.available_to(waiter)


def test_a_free_slot_is_available_to_the_first_waiter_only_and_the_others_keep_their_places() -> None:
    slots, waiters = InFlightSlots(1), three_waiters()
    first, second, third = waiters
    slots.acquire(WakeUp())
    for waiter in (first, second, third, first):
        slots.enqueue(waiter)
    slots.release()
    assert [slots.available_to(waiter) for waiter in waiters] == [True, False, False]
    slots.dequeue(first)
    assert [slots.available_to(waiter) for waiter in waiters] == [False, True, False]


def test_a_released_slot_wakes_the_first_waiter_only() -> None:
    async def main() -> None:
        slots, (first, second, _) = InFlightSlots(1), three_waiters()
        slots.acquire(WakeUp())
        slots.enqueue(first)
        slots.enqueue(second)
        asyncio.get_running_loop().call_later(0.5, slots.release)
        assert list(await asyncio.gather(is_woken(first), is_woken(second))) == [True, False]

    run(main())


def test_a_waiter_that_leaves_wakes_the_next_one_if_a_slot_is_free() -> None:
    async def main() -> None:
        slots, (first, second, _) = InFlightSlots(1), three_waiters()
        slots.enqueue(first)
        slots.enqueue(second)
        asyncio.get_running_loop().call_later(0.5, slots.dequeue, first)
        assert await is_woken(second)
        slots.acquire(WakeUp())
        asyncio.get_running_loop().call_later(0.5, slots.dequeue, second)
        slots.enqueue(first)
        assert not await is_woken(first), "no slot is free"

    run(main())


def test_dequeue_ignores_a_waiter_that_does_not_wait() -> None:
    slots, (waiter, other, _) = InFlightSlots(1), three_waiters()
    slots.dequeue(waiter)
    slots.enqueue(other)
    slots.dequeue(waiter)
    assert slots.available_to(other)
    assert not slots.available_to(waiter)


class ComparedWakeUp(WakeUp):
    """Counts how often one is compared with another, as in a search."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        ComparedWakeUp.comparisons += 1
        return self is other

    def __hash__(self) -> int:
        return id(self)


def test_no_step_searches_through_those_that_wait() -> None:
    slots, waiters = InFlightSlots(1), [ComparedWakeUp() for _ in range(1000)]
    slots.acquire(WakeUp())
    for waiter in waiters:
        slots.enqueue(waiter)
    for waiter in reversed(waiters):
        slots.enqueue(waiter)
        slots.move_to_front(waiter)
        slots.dequeue(waiter)
    assert ComparedWakeUp.comparisons < len(waiters)


actions = st.tuples(st.sampled_from(["enqueue", "dequeue", "acquire", "release"]), st.integers(0, 2))


@given(st.integers(1, 4), st.lists(actions))
def test_slots_never_exceed_the_capacity_and_go_to_the_first_waiter(
    capacity: int, steps: list[tuple[str, int]]
) -> None:
    slots, waiters = InFlightSlots(capacity), three_waiters()
    expected_order: list[WakeUp] = []
    for action, number in steps:
        waiter = waiters[number]
        if action == "enqueue":
            slots.enqueue(waiter)
            expected_order += [] if waiter in expected_order else [waiter]
        elif action == "dequeue":
            slots.dequeue(waiter)
            expected_order = [other for other in expected_order if other is not waiter]
        elif action == "acquire" and slots.available_to(waiter):
            slots.acquire(WakeUp())
        elif action == "release" and slots.in_flight:
            slots.release()
        assert 0 <= slots.in_flight <= capacity
        for other in waiters:
            may_take = slots.in_flight < capacity and (not expected_order or expected_order[0] is other)
            assert slots.available_to(other) == may_take
