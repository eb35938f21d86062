"""How much happened within the last minute or so, in bounded memory."""

from __future__ import annotations


class RollingWindow:
    """A ring of buckets over the last ``span_s`` seconds, known to a bucket's width."""

    def __init__(self, span_s: float, buckets: int) -> None:
        self.span_s = span_s
        self._width_s = span_s / buckets
        self._amounts = [0] * buckets
        self._newest = 0

    def add(self, at: float, amount: int = 1) -> None:
        self._turn_to(at)
        self._amounts[self._newest % len(self._amounts)] += amount

    def total(self, at: float) -> int:
        """What was added within the span before ``at``, or a bucket's width less: never more than the span's own."""
        self._turn_to(at)
        return sum(self._amounts)

    def _turn_to(self, at: float) -> None:
        bucket = int(at / self._width_s)
        if bucket <= self._newest:
            return
        passed = min(bucket - self._newest, len(self._amounts))
        for step in range(1, passed + 1):
            self._amounts[(self._newest + step) % len(self._amounts)] = 0
        self._newest = bucket
