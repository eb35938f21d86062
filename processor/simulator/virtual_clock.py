"""An event loop with a virtual clock: it jumps to the next timer instead of sleeping."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

OVERSHOOT_S = 1e-6
"""Added to every jump. A jump to the exact time can leave a float remainder that a leaky bucket never waits out."""

MAX_ITERATIONS_PER_INSTANT = 1_000_000
ITERATIONS_PER_OVERSHOOT = 1000
"""After so many iterations at one instant a little time passes, as it does on any machine: else a timer whose time is
rounded to the present is set again without end."""


class Deadlock(RuntimeError):
    """The program makes no progress: it waits without a timer, or runs on while no time passes."""


class _JumpingSelector(selectors.SelectSelector):
    """A selector that moves the clock past the timeout instead of waiting. It asks the system about no file."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._iterations = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        if timeout > 0:
            self.now += timeout + OVERSHOOT_S
            self._iterations = 0
        self._iterations += 1
        if self._iterations % ITERATIONS_PER_OVERSHOOT == 0:
            self.now += OVERSHOOT_S
        if self._iterations > MAX_ITERATIONS_PER_INSTANT:
            raise Deadlock(f"{MAX_ITERATIONS_PER_INSTANT} iterations at t = {self.now} s and no time passes")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop's time starts at 0 s. Threads and sockets cannot wake it, so the code that runs on it must use none."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


async def inline(work: Callable[[], T]) -> T:
    """Replaces ``asyncio.to_thread`` on the virtual clock, where a thread would make runs differ."""
    return work()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end on a new virtual clock. Raises Deadlock if it makes no progress."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
