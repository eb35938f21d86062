"""Quantiles of durations in bounded memory."""

from __future__ import annotations

from math import exp, floor, log

GROWTH = 1.02
"""Each bucket is 2 % wider than the one before: a quantile is off by 1 % at most."""

SHORTEST_S = 1e-4
LONGEST_S = 1e6

_LOG_GROWTH = log(GROWTH)


class Histogram:
    """Counts in logarithmic buckets: at most 1,200 of them between 0.1 ms and eleven days."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0

    def add(self, seconds: float) -> None:
        within = min(max(seconds, SHORTEST_S), LONGEST_S)
        bucket = floor(log(within) / _LOG_GROWTH)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.count += 1

    def quantile(self, share: float) -> float | None:
        """The least duration that ``share`` of all stay within, e.g. 0.5 for the median. None where there is none."""
        left = share * self.count
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                return exp((bucket + 0.5) * _LOG_GROWTH)
        return None
