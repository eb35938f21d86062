"""How long to wait before the next attempt: tenacity's random exponential backoff, without its loop.

A job that waits is no coroutine asleep in a decorator here: it gives its slot back and passes the gate anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from tenacity import RetryCallState, wait_random_exponential


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Seconds, evenly drawn between ``min_s`` and a bound that doubles with each failure up to ``max_s``."""

    min_s: float = 1.0
    max_s: float = 60.0

    def wait_s(self, failures: int) -> float:
        """``failures`` so far, this one included. Draws from the global ``random``, as tenacity does."""
        # Twice, or the first wait would be no draw: all that failed together would come back together.
        wait = wait_random_exponential(multiplier=2 * self.min_s, min=self.min_s, max=self.max_s)
        state = RetryCallState(cast(Any, None), None, (), {})
        state.attempt_number = max(failures, 1)
        return float(wait(state))
