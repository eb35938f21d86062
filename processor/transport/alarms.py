"""Timers for many that share a few: each request sets one and hardly any goes off."""

from __future__ import annotations

import asyncio
from math import ceil, frexp, ldexp
from typing import Protocol

_FINE = 7
"""An alarm is late by a 64th of its wait at the most: 2 ** (1 - _FINE)."""


class Waiter(Protocol):
    def look(self) -> None:
        """The moment has come."""


class Alarms:
    """Moments are the event loop's time, on grids of powers of two: alarms of like waits fall on the same ones."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[float, set[Waiter]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}

    def set(self, waiter: Waiter, at: float, now: float) -> float:
        """Wake it at this moment or a little later. Returns when, for ``clear``."""
        grid_s = ldexp(1.0, frexp(at - now)[1] - _FINE)
        moment = ceil(at / grid_s) * grid_s
        waiting = self._waiting.get(moment)
        if waiting is None:
            waiting = self._waiting[moment] = set()
            self._timers[moment] = self._loop.call_at(moment, self._ring, moment)
        waiting.add(waiter)
        return moment

    def clear(self, waiter: Waiter, moment: float) -> None:
        """It need not be woken then any more; if it has been, nothing happens."""
        waiting = self._waiting.get(moment)
        if waiting is not None:
            waiting.discard(waiter)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def _ring(self, moment: float) -> None:
        del self._timers[moment]
        for waiter in self._waiting.pop(moment):
            waiter.look()
