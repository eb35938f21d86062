"""Calls back when something changes, or at a set time: the timer that drains a queue. Nothing polls."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from math import inf


class WakeUpTimes:
    """Finds the first of the times that are set of many wake-ups, without looking at all of them.

    A heap holds for each wake-up an entry that is not later than its time. An entry that is too early is corrected when
    it comes to the top, so that a time that is moved to later, as most are, costs one comparison.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, WakeUp]] = []
        self._listed_at: dict[WakeUp, float] = {}
        """The earliest entry of each wake-up."""
        self._numbers = count()

    def add(self, wake_up: WakeUp, at: float) -> None:
        """The wake-up is due at this time."""
        if at < self._listed_at.get(wake_up, inf):
            self._listed_at[wake_up] = at
            heapq.heappush(self._heap, (at, next(self._numbers), wake_up))

    def first(self) -> float | None:
        """The first time; None where none is set."""
        while self._heap:
            at, _, wake_up = self._heap[0]
            due_at = wake_up.due_at
            if at == due_at:
                return at
            heapq.heappop(self._heap)
            if at == self._listed_at.get(wake_up):
                del self._listed_at[wake_up]
                if due_at is not None:
                    self.add(wake_up, due_at)
        return None


class WakeUp:
    """Calls one callback, once: in the loop iteration after ``fire``, or at a set time. ``times`` finds the first of
    several such times."""

    def __init__(self, times: WakeUpTimes | None = None) -> None:
        self._times = times
        self._callback: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_armed(self) -> bool:
        """Whether a callback is scheduled and was not called."""
        return self._callback is not None

    @property
    def due_at(self) -> float | None:
        """When it calls back (the loop's time); None where no time is set."""
        return None if self._timer is None else self._timer.when()

    def schedule(self, callback: Callable[[], None], at: float = inf) -> None:
        """Call back at ``at`` (the loop's time), or earlier when fired. Replaces the callback before it."""
        self.cancel()
        self._callback = callback
        if at < inf:
            self._timer = asyncio.get_running_loop().call_at(at, self.fire)
            if self._times is not None:
                self._times.add(self, at)

    def cancel(self) -> None:
        self._callback = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def fire(self) -> None:
        """Does nothing where no callback is scheduled."""
        if (callback := self._callback) is not None:
            self.cancel()
            asyncio.get_running_loop().call_soon(callback)
