"""How long a limit group is held back after a 429. Does no I/O: times are passed in."""

from __future__ import annotations

from math import inf

from processor.ratelimit.estimator.send_history import WINDOW_S

FIRST_COOL_DOWN_S = 1.1
"""Longer than a bucket of one second needs to refill."""


class CoolDown:
    def __init__(self) -> None:
        self.until = -inf
        self._next_s = FIRST_COOL_DOWN_S
        self._throttled_at = -inf

    def was_sent_after_last_429(self, sent_at: float | None) -> bool:
        """Whether a 429 for a request sent at this time says more than the last one. None: the time is unknown."""
        return sent_at is None or sent_at > self._throttled_at

    def throttled(self, retry_after_s: float | None, at: float, *, is_new: bool) -> None:
        """Wait for ``retry_after_s``. Where it is None or 0, wait twice as long as the last time if no response other
        than a 429 came in between; a 429 that says nothing new then changes nothing."""
        if retry_after_s:
            self.until = max(self.until, at + max(retry_after_s, FIRST_COOL_DOWN_S))
        elif is_new:
            self.until = max(self.until, at + self._next_s)
            self._next_s = min(2 * self._next_s, WINDOW_S)
        else:
            return
        self._throttled_at = at

    def responded(self) -> None:
        """A response other than a 429 came: the next cool-down is short again."""
        self._next_s = FIRST_COOL_DOWN_S
