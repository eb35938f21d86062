"""The state of a rate limiter at one moment, for the display and the history."""

from __future__ import annotations

from processor.core.fast_dataclass import dataclass
from processor.ratelimit.settings import RateLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitGroupSnapshot:
    name: str
    waiting: int
    limits: RateLimits
    """The limits in force."""
    cool_down_s: float
    """The remaining cool-down after a 429; 0 where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterSnapshot:
    in_flight: int
    limit_groups: tuple[LimitGroupSnapshot, ...]
