"""How many requests a minute to send to a server that refuses, and names no limit: found by trying. Pure.

A refusal after an answer shows that the last pace was too much, if only by a little where it was even. One
after another shows that something is full for long: a window, and what it holds is what was sent in a minute.
"""

from __future__ import annotations

from collections import deque
from math import inf

from processor.limits.ledger import WINDOW_S

_LAST = 8
"""Requests over which the last pace is measured."""

_FIRST_S = 10.0
"""The first refusal ends a burst of unknown meaning: taken as what a server bears in so long."""

_RAMP = 2**0.25
"""More with each answer, until it is refused a second time."""

_MORE = 0.06
"""A minute, with each answer after that: 6 % in a minute, whatever the rate, and twice that in the next one."""
_DOUBLINGS = 4

_MOST = 1e6

_LESS = 0.9
_LEAST_SHARE = 0.125
"""No refusal takes it below this share at once: few requests measure badly."""


class Guess:
    def __init__(self) -> None:
        self.per_minute: float | None = None
        """None: it has refused nothing."""
        self._ramping = True
        self._sent: deque[float] = deque(maxlen=_LAST)
        """When the last requests went since the last lesson."""
        self._answered = 0
        self._learned_at = -inf
        self._held = 0.0

    def sent(self, at: float) -> None:
        self._sent.append(at)

    def answered(self, sent_at: float) -> None:
        """What was sent before the last lesson says nothing about the pace since."""
        if self.per_minute is None or sent_at <= self._learned_at:
            return
        self._answered += 1
        minutes = self._answered / self.per_minute
        more = self.per_minute * (_RAMP - 1) if self._ramping else _MORE * 2 ** min(minutes, _DOUBLINGS)
        self.per_minute = min(self.per_minute + more, _MOST)

    def refused(self, at: float, held: float) -> None:
        """What was sent then was refused, the first since the last refusal. ``held``: sent in the minute before."""
        if self.per_minute is None:
            self._held = held
            self.per_minute = max(1.0, _LESS * min(self._pace(at), held * WINDOW_S / _FIRST_S))
        elif self._answered:
            self._held = held
            self.per_minute *= _LESS * min(1.0, max(self._pace(at) / self.per_minute, _LEAST_SHARE))
            self._ramping = False
        else:
            self.per_minute = min(self.per_minute, max(1.0, self._held))
            self._ramping = False
            return
        self._answered = 0
        self._learned_at = at
        self._sent.clear()

    def _pace(self, at: float) -> float:
        since = self._sent[0] if len(self._sent) == _LAST else self._learned_at
        if since == -inf:
            return _MOST
        return WINDOW_S * max(1, len(self._sent)) / max(1e-3, at - since)
