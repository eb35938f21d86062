"""Tells a job that is always refused from a limit that is exhausted. Pure: times are passed in."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

MIN_ACCEPTED_PER_RANDOM_429 = 10
"""With so many answered requests of others per refused one, next to none of them is refused."""


class Refusal(NamedTuple):
    """A request that was asked to wait, and what its limit group had seen by then."""

    at: float
    answered: int
    refused: int


class RefusalCounter:
    """Counts the answers and the refusals of a limit group."""

    def __init__(self) -> None:
        self._answered = self._refused = 0
        self._newest_answered_sent_at = -inf

    def on_answered(self, sent_at: float) -> None:
        self._answered += 1
        if sent_at > self._newest_answered_sent_at:
            self._newest_answered_sent_at = sent_at

    def on_refused(self, at: float) -> Refusal:
        self._refused += 1
        return Refusal(at, self._answered, self._refused)

    def is_singled_out(self, first: Refusal, own_refusals: int) -> bool:
        """Whether it is the job of that first refusal, and not the limit group, that is refused: others that were sent
        after it have been answered since, and next to none of them was refused.

        ``own_refusals``: how often the job itself has been refused since. They say nothing of the others.
        """
        answered = self._answered - first.answered
        refused = self._refused - first.refused - own_refusals
        return self._newest_answered_sent_at > first.at and answered >= MIN_ACCEPTED_PER_RANDOM_429 * refused
