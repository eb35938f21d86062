"""How long a lane is held back after a refusal. Pure: times are passed in."""

from __future__ import annotations

from math import inf

FIRST_COOL_DOWN_S = 1.1
"""A second's bucket is full again after it."""
MAX_COOL_DOWN_S = 60.0


class CoolDown:
    def __init__(self) -> None:
        self.until = -inf
        self._least_s = FIRST_COOL_DOWN_S
        self._refused_at = -inf

    def is_news(self, sent_at: float | None) -> bool:
        """Whether a refusal of what was sent then says more than the last one did."""
        return sent_at is None or sent_at > self._refused_at

    def refused(self, told_s: float | None, at: float, *, news: bool) -> None:
        """As long as told. Without a time told (0 says nothing), longer each time that something is refused again
        and nothing was answered; what is no news then changes nothing."""
        if told_s:
            self.until = max(self.until, at + max(told_s, FIRST_COOL_DOWN_S))
        elif news:
            self.until = max(self.until, at + self._least_s)
            self._least_s = min(2 * self._least_s, MAX_COOL_DOWN_S)
        else:
            return
        self._refused_at = at

    def answered(self) -> None:
        self._least_s = FIRST_COOL_DOWN_S
