"""A virtual clock: an event loop that jumps to its next timer instead of sleeping: hours in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

OVERSHOOT_S = 1e-6
"""Added to every jump: a timer met exactly can leave a float residue that a leaky bucket waits out for ever."""

MAX_STEPS_AT_ONE_TIME = 1_000_000


class Deadlock(RuntimeError):
    """The program makes no progress: it spins without time passing, or waits for what can never come."""


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting for the timeout, moves the clock past it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._steps = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        if timeout > 0:
            self.now += timeout + OVERSHOOT_S
            self._steps = 0
        self._steps += 1
        if self._steps > MAX_STEPS_AT_ONE_TIME:
            raise Deadlock(f"{MAX_STEPS_AT_ONE_TIME} steps at t = {self.now} s and no time passes")
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s. Only for code without threads and sockets: nothing outside the loop can wake it."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


async def inline(work: Callable[[], T]) -> T:
    """The virtual clock's stand-in for ``asyncio.to_thread``: a thread hop would not replay."""
    return work()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end on a virtual clock of its own. Raises Stuck where it makes no progress."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
