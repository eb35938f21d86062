"""What may go without another look at the limit, within a moment of the last one. Pure."""

from __future__ import annotations

from math import inf

from processor.ratelimit.estimator.send_history import MERGE_S


class FastPath:
    def __init__(self) -> None:
        self._left = 0.0
        self._looked_at = -inf

    def covers(self, cost: float, now: float) -> bool:
        return cost <= self._left and now - self._looked_at < MERGE_S

    def give(self, amount: float, now: float) -> None:
        self._left, self._looked_at = amount, now

    def take(self, cost: float) -> None:
        self._left -= cost

    def end(self) -> None:
        """Something has become known: it must be looked at again."""
        self._left = 0.0
