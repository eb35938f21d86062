"""How often a job is tried, and how long it waits between attempts: tenacity's rules, without tenacity's loop.

A waiting job is not a coroutine that sleeps inside tenacity's loop: it gives its permit back and acquires a new one for
the next attempt. So tenacity's retry object is asked for its decisions only.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from processor.core.fast_dataclass import dataclass

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """A wait is drawn evenly between ``min_s`` and a bound that doubles with each failure, up to ``max_s``."""

    min_s: float = 1.0
    max_s: float = 60.0


class RetrySchedule:
    """The decisions of one tenacity retry object, by the number of failures so far, the latest included.

    It may be 0: an outage explains a failure that then does not count.
    """

    def __init__(self, max_attempts: int, backoff: Backoff) -> None:
        self._max_attempts = max_attempts
        self._backoff = backoff

    @cached_property
    def _retrying(self) -> AsyncRetrying:
        """Is made for the first failure: importing tenacity would delay the first request."""
        from tenacity import AsyncRetrying, stop_after_attempt, wait_random_exponential

        return AsyncRetrying(
            stop=stop_after_attempt(self._max_attempts),
            # The multiplier is doubled because a first bound of min_s would leave nothing to draw: all jobs that failed
            # together would then be sent again together.
            wait=wait_random_exponential(
                multiplier=2 * self._backoff.min_s, min=self._backoff.min_s, max=self._backoff.max_s
            ),
        )

    def is_exhausted(self, failures: int) -> bool:
        return bool(self._retrying.stop(self._state(failures)))

    def wait_s(self, failures: int) -> float:
        """Draws from the global ``random``, as tenacity does."""
        return float(self._retrying.wait(self._state(max(failures, 1))))

    def _state(self, failures: int) -> RetryCallState:
        from tenacity import RetryCallState

        state = RetryCallState(self._retrying, fn=None, args=(), kwargs={})
        state.attempt_number = failures
        return state
