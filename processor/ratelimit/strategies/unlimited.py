"""For tokens without a known limit: at once. Pure."""

from __future__ import annotations

from processor.ratelimit.estimator.server_model import UNLIMITED
from processor.ratelimit.strategies.base import Strategy


class Unlimited(Strategy):
    @property
    def pacing_limit(self) -> float:
        return UNLIMITED

    def earliest(self, cost: float, now: float) -> float:
        return now

    def record(self, cost: float, at: float) -> None:
        """There is no pace to keep."""
