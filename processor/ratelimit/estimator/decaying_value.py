"""A number that halves with time, and is raised when something happens. Pure."""

from __future__ import annotations


class DecayingValue:
    def __init__(self, halves_s: float) -> None:
        self._halves_s = halves_s
        self._value = 0.0
        self._at = 0.0

    def value(self, now: float) -> float:
        return self._value * 0.5 ** ((now - self._at) / self._halves_s) if self._value else 0.0

    def raise_by(self, amount: float, now: float, *, most: float) -> None:
        self._value = min(self.value(now) + amount, most)
        self._at = now
