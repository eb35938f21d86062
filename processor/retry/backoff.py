"""How long a job waits before its next attempt: tenacity's random exponential backoff, without tenacity's loop.

A waiting job is not a coroutine that sleeps inside a decorator: it gives its permit back and acquires a new one for
the next attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from tenacity import RetryCallState, wait_random_exponential


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Draws a wait evenly between ``min_s`` and a bound that doubles with each failure, up to ``max_s``."""

    min_s: float = 1.0
    max_s: float = 60.0

    def wait_s(self, failures: int) -> float:
        """``failures`` so far, including the latest. Draws from the global ``random``, as tenacity does."""
        # The multiplier is doubled because a first bound of min_s would leave nothing to draw: all jobs that failed
        # together would then be sent again together.
        wait = wait_random_exponential(multiplier=2 * self.min_s, min=self.min_s, max=self.max_s)
        state = RetryCallState(cast(Any, None), None, (), {})
        state.attempt_number = max(failures, 1)
        return float(wait(state))
