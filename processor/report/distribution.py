"""The distribution of a quantity in bounded memory, with its exact number, sum and maximum."""

from __future__ import annotations

from processor.stats.histogram import Histogram

_BUFFERED = 1024
"""Values that are counted together: one at a time takes twice as long, and a report counts five million."""


class Distribution:
    def __init__(self) -> None:
        self._histogram = Histogram()
        self._values: list[float] = []
        self._sum = self._largest = 0.0

    def add(self, value: float) -> None:
        self._values.append(value)
        if len(self._values) == _BUFFERED:
            self._count()

    def _count(self) -> None:
        if self._values:
            self._sum += sum(self._values)
            self._largest = max(self._largest, *self._values)
            self._histogram.add_all(self._values)
            self._values.clear()

    def merge(self, other: Distribution) -> None:
        """Add the values of the other one."""
        self._count()
        self._sum += other.sum
        self._largest = max(self._largest, other.largest)
        self._histogram.merge(other.histogram)

    @property
    def histogram(self) -> Histogram:
        self._count()
        return self._histogram

    @property
    def count(self) -> int:
        return self.histogram.count

    @property
    def sum(self) -> float:
        self._count()
        return self._sum

    @property
    def largest(self) -> float:
        self._count()
        return self._largest

    def quantile(self, share: float) -> float | None:
        """Exact to 1 %, and never above the largest value."""
        value = self.histogram.quantile(share)
        return None if value is None else min(value, self.largest)
