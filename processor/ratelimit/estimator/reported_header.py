"""What the rate-limit headers of one response show of a counter."""

from __future__ import annotations

from typing import NamedTuple

from processor.ratelimit.estimator.external_usage import Interval
from processor.ratelimit.estimator.send_history import WINDOW_S

RESET_STEP_S = 1.0
"""Some servers round the reset up to whole seconds, and most to milliseconds."""


class Header(NamedTuple):
    """What a response shows to a request that was not refused. The cost is ours, the rest is the server's."""

    sent_at: float
    cost: float
    remaining: float
    reset_s: float | None
    """Until all of it is available again."""
    limit: float
    """A minute's."""

    @property
    def rate(self) -> float:
        return self.limit / WINDOW_S

    @property
    def missing_by_reset(self) -> Interval | None:
        """What is missing as the reset shows it, where that is so much less than what does not remain that the counter
        can only be a bucket of one second; None: it is not."""
        if self.reset_s is None or self.reset_s * self.rate >= self.limit - self.remaining - self.rate:
            return None
        step_s = RESET_STEP_S if self.reset_s.is_integer() else RESET_STEP_S / 1000
        return Interval((self.reset_s - step_s) * self.rate, self.reset_s * self.rate)

    def agrees_with_second_bucket(self, by_reset: Interval) -> bool:
        """Whether as much is missing from a bucket of one second."""
        return by_reset.low <= self.rate - self.remaining <= by_reset.high + 1
