"""Sums over time in at most MAX_BUCKETS buckets of equal width, which grows with the time that they cover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_BUCKETS = 360
"""Six hours by the minute, twelve by two minutes: more would make the page too large."""

WIDTHS_S = (1, 10, 60, 120, 600, 3600, 21_600, 86_400, 864_000, 8_640_000, 86_400_000, 864_000_000)
"""Each is a multiple of the one before, so that buckets can be merged. The last takes all times that a row can have."""


@dataclass(slots=True)
class TimeBucket:
    """What happened in one part of the time."""

    replies: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    in_flight_change: int = 0
    """Requests that started less those that ended."""
    first_token: Counter[int] = field(default_factory=Counter)
    total: Counter[int] = field(default_factory=Counter)
    """Replies by the logarithm of their seconds: see ``latency_class``."""

    def merge(self, other: TimeBucket) -> None:
        self.replies += other.replies
        self.failed += other.failed
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.in_flight_change += other.in_flight_change
        self.first_token.update(other.first_token)
        self.total.update(other.total)


class TimeBuckets:
    def __init__(self) -> None:
        self._width = 0
        self._buckets: dict[int, TimeBucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    @property
    def width_s(self) -> int:
        return WIDTHS_S[self._width]

    def at(self, unix_time: float) -> TimeBucket:
        """Return the bucket of a time."""
        number = int(unix_time // WIDTHS_S[self._width])
        bucket = self._buckets.get(number)
        if bucket is not None:
            return bucket
        bucket = self._buckets[number] = TimeBucket()
        while self._width + 1 < len(WIDTHS_S) and self._span() > MAX_BUCKETS:
            self._widen()
        return self._buckets[int(unix_time // WIDTHS_S[self._width])]

    def all(self) -> Iterator[tuple[float, TimeBucket]]:
        """Yield each bucket in the order of time, with the time at which it begins. Empty ones are left out."""
        for number in sorted(self._buckets):
            yield float(number * self.width_s), self._buckets[number]

    def merge(self, other: TimeBuckets) -> None:
        """Add what the other ones hold."""
        for begin, bucket in other.all():
            while self.width_s < other.width_s:
                self._widen()
            self.at(begin).merge(bucket)

    def _span(self) -> int:
        return max(self._buckets) - min(self._buckets) + 1

    def _widen(self) -> None:
        factor = WIDTHS_S[self._width + 1] // WIDTHS_S[self._width]
        self._width += 1
        before, self._buckets = self._buckets, {}
        for number, bucket in before.items():
            if number // factor in self._buckets:
                self._buckets[number // factor].merge(bucket)
            else:
                self._buckets[number // factor] = bucket
