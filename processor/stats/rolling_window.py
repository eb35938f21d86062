"""A rolling sum over the last minute or so, in bounded memory."""

from __future__ import annotations


class RollingWindow:
    """Sums amounts over the last ``span_s`` seconds in a ring of buckets, exact to the width of one bucket."""

    def __init__(self, span_s: float, buckets: int) -> None:
        self.span_s = span_s
        self._width_s = span_s / buckets
        self._amounts = [0] * buckets
        self._newest = 0

    def add(self, at: float, amount: int = 1) -> None:
        self._advance_to(at)
        self._amounts[self._newest % len(self._amounts)] += amount

    def total(self, at: float) -> int:
        """The sum over a time that ends at ``at`` and is as long as the span, or up to one bucket shorter."""
        self._advance_to(at)
        return sum(self._amounts)

    def _advance_to(self, at: float) -> None:
        bucket = int(at / self._width_s)
        if bucket <= self._newest:
            return
        passed = min(bucket - self._newest, len(self._amounts))
        for step in range(1, passed + 1):
            self._amounts[(self._newest + step) % len(self._amounts)] = 0
        self._newest = bucket
