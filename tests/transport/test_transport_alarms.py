from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.simulator.clock import run
from processor.transport.alarms import Alarms


@dataclass(eq=False)
class One:
    looked_at: list[float] = field(default_factory=list)

    def look(self) -> None:
        self.looked_at.append(asyncio.get_running_loop().time())


def timers(alarms: Alarms) -> int:
    return len(alarms._timers)


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(1e-3, 2000), st.booleans()), max_size=20))
def test_each_goes_off_once_and_late_by_a_64th_of_its_wait_at_most(alarms: list[tuple[float, float, bool]]) -> None:
    """Each is set at a time, for so long, and may be cleared again."""

    async def main() -> None:
        shared, ones = Alarms(), []

        async def one(set_at: float, wait_s: float, stays: bool) -> None:
            await asyncio.sleep(set_at)
            now = asyncio.get_running_loop().time()
            ones.append((one := One(), now + wait_s, wait_s, stays))
            moment = shared.set(one, now + wait_s, now)
            if not stays:
                shared.clear(one, moment)
                shared.clear(one, moment)

        await asyncio.gather(*(one(*each) for each in alarms))
        await asyncio.sleep(4000)
        for one_, due, wait_s, stays in ones:
            assert len(one_.looked_at) == stays
            assert all(due - 1e-3 <= at <= due + wait_s / 64 + 2e-3 for at in one_.looked_at)
        assert timers(shared) == 0

    run(main())


def test_those_of_like_waits_share_a_few_timers() -> None:
    async def main() -> None:
        shared, loop = Alarms(), asyncio.get_running_loop()
        for _ in range(1000):
            shared.set(One(), loop.time() + 120, loop.time())
            await asyncio.sleep(0.01)
        assert timers(shared) <= 12

    run(main())


def test_one_that_sets_itself_anew_when_it_goes_off_goes_off_again() -> None:
    class Again(One):
        def look(self) -> None:
            super().look()
            now = asyncio.get_running_loop().time()
            if len(self.looked_at) < 3:
                shared.set(self, now + 10, now)

    async def main() -> None:
        nonlocal shared
        shared = Alarms()
        shared.set(again := Again(), 10.0, 0.0)
        await asyncio.sleep(100)
        assert again.looked_at == pytest.approx([10, 20, 30], abs=0.5)

    shared: Alarms
    run(main())


def test_when_it_is_closed_nothing_goes_off_any_more() -> None:
    async def main() -> None:
        shared, one = Alarms(), One()
        shared.set(one, 10.0, 0.0)
        shared.close()
        await asyncio.sleep(100)
        assert one.looked_at == []

    run(main())


@pytest.mark.parametrize("wait_s", [0.0, -1.0])
def test_what_is_due_goes_off_at_once(wait_s: float) -> None:
    async def main() -> None:
        shared, one, loop = Alarms(), One(), asyncio.get_running_loop()
        await asyncio.sleep(5)
        shared.set(one, loop.time() + wait_s, loop.time())
        await asyncio.sleep(0.02)
        assert len(one.looked_at) == 1

    run(main())
