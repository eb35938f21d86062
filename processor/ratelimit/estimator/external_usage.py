"""What others use of a limit: another program with the same key, an earlier run. Pure.

Known only by what is missing: a header shows less than the own ledger predicts.
"""

from __future__ import annotations

from math import exp
from typing import NamedTuple

_DRIFT_S = 10.0
"""Over this time the pace at which others use more is averaged."""

FORESEEN_S = 30.0
"""For no longer than that others are expected to go on at the same pace."""


class Interval(NamedTuple):
    """A number known to lie between two bounds."""

    least: float
    most: float


class ExternalUsage:
    def __init__(self) -> None:
        self.used = 0.0
        self._drift = 0.0
        self._noted: tuple[float, float] | None = None
        """When, and what was used then."""

    def explain(self, predicted: Interval, shown: float, spare: float) -> None:
        """A header shows this where the ledger predicts that, if nobody else were there. The belief so far
        stays where it explains the header; else it becomes the least that does, and a little to spare."""
        least, most = predicted.least - (shown + 1), predicted.most - shown
        if self.used > most:
            self.used = most
        elif self.used < least:
            self.used = min(most, least + spare)

    def note(self, at: float) -> None:
        """All headers up to this time of sending are explained: how fast has it grown?"""
        if self._noted is not None:
            since, used = self._noted
            weight = 1 - exp((since - at) / _DRIFT_S)
            self._drift += weight * ((self.used - used) / (at - since) - self._drift)
        self._noted = (at, self.used)

    @property
    def drift(self) -> float:
        """Units per second by which it grows."""
        return max(0.0, self._drift)

    def ahead(self, since: float, now: float) -> float:
        """What they use by now, when the newest header is from then."""
        return self.used + self.drift * min(FORESEEN_S, max(0.0, now - since))

    def rescale(self, factor: float) -> None:
        """In other units. Where the server showed more than predicted, it was because of the units."""
        self.used = max(0.0, self.used * factor)
        self._drift *= factor
        self._noted = None
