"""How many requests a minute to send to a server that refuses, and names no limit: found by trying. Pure.

What is refused is judged once all that went with it is known: when the first request after the pause goes. Where a
limit is full, nearly all is refused that was sent behind the first. Where it is not, the refusals are chance, and
sending slower would not make them fewer: so it is when refusals go on though the pace falls.

A refusal among answers shows that the last pace was too much, if only by a little where it was even. One after another
shows that something is full for long: a window, and what it holds is what was sent in a minute.
"""

from __future__ import annotations

from processor.ratelimit.estimator.send_history import WINDOW_S
from processor.ratelimit.strategies.refusal_episode import RefusalEpisode

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

_AMONG = 10
"""So many that were let through make one refusal chance, where nothing is known yet."""

_ROW = 2
"""What is seen once more after so many lessons in a row is chance no more."""

_SLOWER = 0.95
_IN_VAIN = 4
"""Refusals in a row, each at a slower pace, that show that it is not the pace, if no more was let through in between
than at first."""
_GROWN = 1.5


class AimdRate:
    def __init__(self) -> None:
        self.per_minute: float | None = None
        """None: it has refused nothing, or only by chance."""
        self._lesson = RefusalEpisode()
        self._ramping = True
        self._answered = 0
        """Since the last lesson."""
        self._held = 0.0
        """What had been sent within a minute when it began to refuse."""
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

    def judge(self, now: float) -> bool:
        """A request may go. Returns whether a first pace has been guessed, from what was refused before."""
        unpaced = self.per_minute is None
        if self._lesson.is_over(now):
            self._learn(self._lesson)
            self._lesson = RefusalEpisode(self._lesson.heard_at)
            self._answered = 0
        return unpaced and self.per_minute is not None

    def sent(self, at: float) -> None:
        self._lesson.send(at)

    def answered(self, sent_at: float) -> None:
        """What was sent before the last lesson says nothing about the pace since."""
        if self.per_minute is None or self._lesson.refused or sent_at <= self._lesson.since:
            return
        self._answered += 1
        minutes = self._answered / self.per_minute
        more = self.per_minute * (_RAMP - 1) if self._ramping else _MORE * 2 ** min(minutes, _DOUBLINGS)
        self.per_minute = min(self.per_minute + more, _MOST)

    def refused(self, sent_at: float, heard_at: float, held: float) -> None:
        """``held``: what was sent in the minute before."""
        if sent_at <= self._lesson.since:
            return
        if not self._lesson.refused and (self.per_minute is None or not self._empties):
            self._held = held
        self._lesson.refuse(sent_at, heard_at)

    def _learn(self, lesson: RefusalEpisode) -> None:
        again = lesson.refused > 1
        storm = lesson.is_storm or (lesson.is_crowded and (again or self._crowds >= _ROW))
        if self.per_minute is None:
            is_chance = lesson.is_telling or lesson.let_through >= _AMONG * lesson.refused
            if storm or not is_chance:
                self.per_minute = max(1.0, _LESS * min(lesson.pace(), self._held * WINDOW_S / _FIRST_S, _MOST))
        elif lesson.is_empty and (again or self._empties >= _ROW):
            self.per_minute = min(self.per_minute, max(1.0, self._held))
            self._ramping = self._by_chance = False
        elif storm or not self._by_chance:
            self.per_minute = self._slower(lesson, self.per_minute, storm=storm)
        self._empties = self._empties + 1 if lesson.is_empty else 0
        self._crowds = self._crowds + 1 if lesson.is_crowded else 0

    def _slower(self, lesson: RefusalEpisode, pace: float, *, storm: bool) -> float:
        """A slower pace; or, where that is in vain, the one before."""
        if storm or pace >= _SLOWER * self._refused_pace:
            self._first_pace = pace
            self._runs.clear()
        self._refused_pace = pace
        self._runs.append(lesson.let_through)
        self._by_chance = self._ramping = len(self._runs) > _IN_VAIN and not _grow(self._runs)
        if self._by_chance:
            return self._first_pace
        return _LESS * max(min(pace, lesson.bears()), 1.0 if lesson.is_long else _LEAST_SHARE * pace)


def _grow(runs: list[int]) -> bool:
    """More is let through before each refusal: then it is the pace."""
    half = len(runs) // 2
    return sum(runs[-half:]) >= _GROWN * sum(runs[:half])
