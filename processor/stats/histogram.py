"""Quantiles of durations in bounded memory."""

from __future__ import annotations

from math import exp, floor, log

BUCKET_GROWTH = 1.02
"""Each bucket is 2 % wider than the one before, so that a quantile is off by 1 % at most."""

MIN_DURATION_S = 1e-4
MAX_DURATION_S = 1e6

_LOG_GROWTH = log(BUCKET_GROWTH)


class Histogram:
    """Counts durations in logarithmic buckets: at most 1,200 between 0.1 ms and eleven days."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0

    def add(self, duration_s: float) -> None:
        clamped_s = min(max(duration_s, MIN_DURATION_S), MAX_DURATION_S)
        bucket = floor(log(clamped_s) / _LOG_GROWTH)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.count += 1

    def quantile(self, share: float) -> float | None:
        """The smallest duration that ``share`` of all do not exceed, e.g. 0.5 for the median. None if empty."""
        left = share * self.count
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                return exp((bucket + 0.5) * _LOG_GROWTH)
        return None
