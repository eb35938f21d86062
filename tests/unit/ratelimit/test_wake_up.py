from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.ratelimit.wake_up import WakeUp, WakeUpTimes
from processor.simulator.virtual_clock import run


async def call_times(fire: Callable[[WakeUp], None], until: float) -> list[float]:
    """Schedule a callback for ``until`` at the latest, and return when it is called within a minute."""
    wake_up, loop, times = WakeUp(), asyncio.get_running_loop(), []
    wake_up.schedule(lambda: times.append(loop.time()), until)
    fire(wake_up)
    await asyncio.sleep(60)
    return times


def fire_at(*moments: float) -> Callable[[WakeUp], None]:
    def fire(wake_up: WakeUp) -> None:
        for moment in moments:
            asyncio.get_running_loop().call_at(moment, wake_up.fire)

    return fire


@pytest.mark.parametrize(
    ("fire", "until", "called_at"),
    [(fire_at(1.0), 5.0, 1.0), (fire_at(9.0), 5.0, 5.0), (fire_at(), 5.0, 5.0), (fire_at(2.0, 2.0, 3.0), 100.0, 2.0)],
)
def test_callback_is_called_once_when_fired_or_at_its_time(
    fire: Callable[[WakeUp], None], until: float, called_at: float
) -> None:
    assert run(call_times(fire, until)) == [pytest.approx(called_at, abs=1e-3)]


def test_callback_is_called_after_the_code_that_fires_it() -> None:
    async def main() -> list[str]:
        wake_up, order = WakeUp(), []
        wake_up.schedule(lambda: order.append("called"))
        wake_up.fire()
        wake_up.fire()
        order.append("fired")
        await asyncio.sleep(1)
        return order

    assert run(main()) == ["fired", "called"]


@pytest.mark.parametrize("until", [1.0, 5.0])
def test_new_callback_replaces_the_one_before(until: float) -> None:
    async def main() -> list[float]:
        wake_up, loop, times = WakeUp(), asyncio.get_running_loop(), []
        wake_up.schedule(lambda: times.append(-1.0), 2.0)
        wake_up.schedule(lambda: times.append(loop.time()), until)
        assert wake_up.is_armed
        await asyncio.sleep(60)
        assert not wake_up.is_armed
        return times

    assert run(main()) == [pytest.approx(until, abs=1e-3)]


def test_fire_without_a_callback_does_nothing() -> None:
    async def main() -> list[float]:
        wake_up, times = WakeUp(), []
        wake_up.fire()
        wake_up.schedule(lambda: times.append(0.0), 5.0)
        wake_up.cancel()
        wake_up.fire()
        await asyncio.sleep(60)
        return times

    assert run(main()) == []


steps = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([5.0, 1.0, 9.0, 3.0, None]), st.booleans()))


@given(steps)
def test_first_of_several_times_is_that_of_the_wake_up_that_is_due_next(
    steps: list[tuple[int, float | None, bool]],
) -> None:
    async def main() -> None:
        times = WakeUpTimes()
        wake_ups = [WakeUp(times) for _ in range(4)]
        for number, at, is_asked in steps:
            if at is None:
                wake_ups[number].cancel()
            else:
                wake_ups[number].schedule(lambda: None, at)
            if is_asked:
                due = [at for wake_up in wake_ups if (at := wake_up.due_at) is not None]
                assert times.first() == min(due, default=None)

    run(main())


def test_time_that_moves_to_later_leaves_nothing_behind() -> None:
    async def main() -> int:
        times = WakeUpTimes()
        wake_up = WakeUp(times)
        for at in range(1000):
            wake_up.schedule(lambda: None, float(at + 1))
        assert times.first() == 1000.0
        return len(times._heap)

    assert run(main()) == 1
