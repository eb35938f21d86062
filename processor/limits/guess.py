"""How many requests a minute to send to a server that refuses, and names no limit: found by trying. Pure.

What is refused is judged once all that went with it is known: when the first request after the pause goes. Where a
limit is full, nearly all is refused that was sent behind the first. Where it is not, the refusals are chance, and
sending slower would not make them fewer: so it is when refusals go on though the pace falls.

A refusal among answers shows that the last pace was too much, if only by a little where it was even. One after another
shows that something is full for long: a window, and what it holds is what was sent in a minute.
"""

from __future__ import annotations

from collections import deque
from math import inf

from processor.limits.ledger import WINDOW_S

_KEPT = 1024
_LAST = 8
"""Requests over which the last pace is measured."""
_LATELY = 24
"""Requests over which it is measured what is let through."""
_FEW = 3
"""Fewer of them show nothing."""

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

_STORM = 0.5
"""The share of what was sent behind a refusal that is refused, too, where a limit is full."""

_AMONG = 10
"""So many that were let through make one refusal chance, where nothing is known yet."""

_MANY = 0.3
"""The share of all that was sent that is no chance."""

_SLOWER = 0.95
_IN_VAIN = 4
"""Refusals in a row, each at a slower pace, that show that it is not the pace, if no more was let through in between
than at first."""
_GROWN = 1.5

_ROW = 2
"""So many lessons in a row are chance no more."""

_PAUSE_S = 2.0
"""As long as pauses after a refusal usually are."""

_SETTLED_S = 0.5
"""After a refusal, until all others have come that went with it."""


class Guess:
    def __init__(self) -> None:
        self.per_minute: float | None = None
        """None: it has refused nothing, or only by chance."""
        self._ramping = True
        self._sent: deque[float] = deque(maxlen=_KEPT)
        """When the last requests went since the last lesson."""
        self._count = 0
        """All of those since."""
        self._refused: list[float] = []
        """When those of them went that were refused."""
        self._answered = 0
        self._heard_at = -inf
        self._learned_at = -inf
        self._held = 0.0
        self._empties = 0
        """Lessons in a row in which nothing was let through."""
        self._crowds = 0
        """In which much was refused."""
        self._refused_pace = 0.0
        """The last that was too much."""
        self._first_pace = 0.0
        """Where the refusals began that came at a slower pace each."""
        self._runs: list[int] = []
        """How many were let through before each of these."""
        self._by_chance = False

    def sent(self, at: float) -> bool:
        """Returns whether a first pace has been guessed, from what was refused before."""
        unpaced = self.per_minute is None
        if self._refused and at >= self._heard_at + _SETTLED_S:
            self._learn()
        self._sent.append(at)
        self._count += 1
        return unpaced and self.per_minute is not None

    def answered(self, sent_at: float) -> None:
        """What was sent before the last lesson says nothing about the pace since."""
        if self.per_minute is None or self._refused or sent_at <= self._learned_at:
            return
        self._answered += 1
        minutes = self._answered / self.per_minute
        more = self.per_minute * (_RAMP - 1) if self._ramping else _MORE * 2 ** min(minutes, _DOUBLINGS)
        self.per_minute = min(self.per_minute + more, _MOST)

    def refused(self, sent_at: float, heard_at: float, held: float) -> None:
        """``held``: what was sent in the minute before."""
        if sent_at <= self._learned_at:
            return
        if not self._refused and (self.per_minute is None or not self._empties):
            self._held = held
        self._refused.append(sent_at)
        self._heard_at = heard_at

    def _learn(self) -> None:
        first = min(self._refused)
        behind, among = sum(at > first for at in self._sent), sum(at > first for at in self._refused)
        let_through = self._count - len(self._refused)
        many, empty = behind >= _FEW, let_through <= 0
        crowded = len(self._refused) >= _MANY * self._count
        storm = (many and among >= _STORM * behind) or (crowded and (self._crowds >= _ROW or len(self._refused) > 1))
        if self.per_minute is None:
            if storm or not (many or let_through >= _AMONG * len(self._refused)):
                self.per_minute = max(1.0, _LESS * min(self._pace(first), self._held * WINDOW_S / _FIRST_S))
        elif empty and (self._empties >= _ROW or len(self._refused) > 1):
            self.per_minute = min(self.per_minute, max(1.0, self._held))
            self._ramping = self._by_chance = False
        elif storm or not self._by_chance:
            self._slow_down(self.per_minute, let_through, storm=storm)
        self._empties = self._empties + 1 if empty else 0
        self._crowds = self._crowds + 1 if crowded else 0
        self._answered = self._count = 0
        self._learned_at = self._heard_at
        self._sent.clear()
        self._refused.clear()

    def _bears(self) -> float:
        """What was let through lately, a minute: with the pause before it, if that is not long ago. inf: who knows."""
        if self._count < _LAST:
            return inf
        lately = min(self._count, _LATELY)
        since = self._sent[-_LATELY] if self._count > _LATELY else max(self._learned_at, self._sent[0] - _PAUSE_S)
        return (lately - len(self._refused)) * WINDOW_S / max(1e-3, self._sent[-1] - since)

    def _slow_down(self, pace: float, let_through: int, *, storm: bool) -> None:
        in_vain = pace < _SLOWER * self._refused_pace and not storm
        if not in_vain:
            self._first_pace = pace
            self._runs.clear()
        self._refused_pace = pace
        self._runs.append(let_through)
        self._by_chance = self._ramping = len(self._runs) > _IN_VAIN and not _grow(self._runs)
        least = 1.0 if self._count >= _LATELY else _LEAST_SHARE * pace
        slower = _LESS * max(min(pace, self._bears()), least)
        self.per_minute = self._first_pace if self._by_chance else slower

    def _pace(self, until: float) -> float:
        """Of the last requests up to then."""
        last = [at for at in self._sent if at <= until][-_LAST:]
        if len(last) < _FEW:
            return _MOST
        return WINDOW_S * (len(last) - 1) / max(1e-3, last[-1] - last[0])


def _grow(runs: list[int]) -> bool:
    """More is let through before each refusal: then it is the pace."""
    half = len(runs) // 2
    return sum(runs[-half:]) >= _GROWN * sum(runs[:half])
