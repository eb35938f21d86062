"""A number that halves over time and is raised by events. Pure."""

from __future__ import annotations

MEAN_OVER_REQUESTS = 50
"""Means of costs and of reply lengths are taken over about this many requests, so that they follow a change."""


class DecayingValue:
    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._value = 0.0
        self._raised_at = 0.0

    @property
    def is_raised(self) -> bool:
        """Whether it has ever been raised. If not, it is 0 at all times."""
        return self._value > 0

    def value(self, now: float) -> float:
        return self._value * 0.5 ** ((now - self._raised_at) / self._half_life_s) if self._value else 0.0

    def raise_by(self, amount: float, now: float, *, maximum: float) -> None:
        self._value = min(self.value(now) + amount, maximum)
        self._raised_at = now
