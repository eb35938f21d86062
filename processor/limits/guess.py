"""How many requests a minute to send to a server that refuses, and names no limit: found by trying. Pure.

A refusal after an answer shows that the last pace was too much, if only by a little where it was even. One
after another shows that something is full for long: a window, and what it holds is what was sent in a minute.
"""

from __future__ import annotations

from collections import deque

from processor.limits.ledger import WINDOW_S

_LAST = 8
"""Requests over which the last pace is measured."""

_FIRST_S = 10.0
"""The first refusal ends a burst of unknown meaning: taken as what a server bears in so long."""

_RAMP = 2**0.25
"""More with each answer, until it is refused a second time."""

_MORE = 0.06
"""A minute, with each answer after that: 6 % in a minute, whatever the rate."""

_LESS = 0.9
_LEAST_SHARE = 0.125
"""No refusal takes it below this share at once: few requests measure badly."""


class Guess:
    def __init__(self) -> None:
        self.per_minute: float | None = None
        """None: it has refused nothing."""
        self._ramping = True
        self._sent: deque[float] = deque(maxlen=_LAST)
        """When the last requests went since the last refusal."""
        self._since = 0.0
        self._held = 0.0

    def sent(self, at: float) -> None:
        self._sent.append(at)

    def answered(self) -> None:
        if self.per_minute is not None:
            self.per_minute = self.per_minute * _RAMP if self._ramping else self.per_minute + _MORE

    def exceeded(self, at: float, held: float) -> None:
        """What was sent then was refused, the first after an answer. ``held``: sent in the minute before."""
        pace = self._pace(at)
        if self.per_minute is None:
            self.per_minute = _LESS * min(pace, held * WINDOW_S / _FIRST_S)
        else:
            self.per_minute = _LESS * min(self.per_minute, max(pace, _LEAST_SHARE * self.per_minute))
            self._ramping = False
        self._held = held
        self._begin(at)

    def blocked(self, at: float) -> None:
        """Refused again, and nothing was answered in between."""
        if self.per_minute is not None:
            self.per_minute = min(self.per_minute, self._held)
            self._ramping = False
        self._begin(at)

    def _pace(self, at: float) -> float:
        since = self._sent[0] if len(self._sent) == _LAST else self._since
        return WINDOW_S * max(1, len(self._sent)) / max(1e-3, at - since)

    def _begin(self, at: float) -> None:
        self._sent.clear()
        self._since = at
