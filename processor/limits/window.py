"""What this process has sent in the last minute, as a sliding window on the server may count it. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf

WINDOW_S = 60.0

JITTER_S = 0.1
"""How much longer one request may take to the server than another."""

_GRAIN_S = 0.005
"""Requests this close together are remembered as one: memory is bounded by the minute, not by the rate."""


@dataclass(slots=True)
class Slice:
    """What was sent at (nearly) one time. ``at`` is the latest of it."""

    began: float
    at: float
    amount: float


class Window:
    """Counts each request from when it may first be at the server until it has surely left the window there."""

    def __init__(self) -> None:
        self._slices: deque[Slice] = deque()
        self.held = 0.0

    def add(self, at: float, amount: float) -> Slice:
        self.held += amount
        if self._slices and 0 <= at - self._slices[-1].began < _GRAIN_S:
            last = self._slices[-1]
            last.at = max(at, last.at)
            last.amount += amount
            return last
        new = Slice(at, at, amount)
        self._slices.append(new)
        return new

    def correct(self, where: Slice, amount: float) -> None:
        """Add to what is remembered there (negative: take away), unless it has left the window already."""
        if where.at > -inf:
            where.amount += amount
            self.held += amount

    def forget(self, now: float) -> None:
        while self._slices and _gone_at(self._slices[0]) <= now:
            old = self._slices.popleft()
            self.held -= old.amount
            old.at = -inf
        if not self._slices:
            self.held = 0.0

    def when(self, excess: float, now: float) -> float:
        """When at least this much has left; inf where there is not so much in it."""
        if excess <= 0:
            return now
        for slice_ in self._slices:
            excess -= slice_.amount
            if excess <= 1e-9:
                return _gone_at(slice_)
        return inf


def _gone_at(slice_: Slice) -> float:
    return slice_.at + WINDOW_S + JITTER_S
