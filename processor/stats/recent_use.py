"""What a run used of its limits in the last minutes and hours, in bounded memory: for charts on a terminal."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from processor.core.fast_dataclass import dataclass

COLUMN_WIDTHS_S = (1, 2, 10, 30, 60, 120)
MAX_COLUMNS = 90


class Use(NamedTuple):
    """Requests and tokens of the minute up to a moment, and the requests in flight then."""

    requests: float
    tokens: float
    in_flight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentColumns:
    """The columns of a chart, oldest first. None: nothing is known of that time."""

    width_s: int
    columns: tuple[Use | None, ...]


class RecentUse:
    """Keeps samples, and their means over longer and longer columns."""

    def __init__(self) -> None:
        self._rings = tuple(_Ring(width_s) for width_s in COLUMN_WIDTHS_S)
        self._began_at: float | None = None

    def record(self, now: float, use: Use) -> None:
        if self._began_at is None:
            self._began_at = now
        for ring in self._rings:
            ring.add(now, use)

    def columns(self, now: float, count: int) -> RecentColumns:
        """``count`` columns up to now: the narrowest that show the whole run, else the widest."""
        elapsed_s = 0.0 if self._began_at is None else now - self._began_at
        ring = next((ring for ring in self._rings if ring.width_s * count >= elapsed_s), self._rings[-1])
        return RecentColumns(width_s=ring.width_s, columns=ring.columns(now, count))


class _Ring:
    """The sums of the samples in each of the last MAX_COLUMNS columns."""

    def __init__(self, width_s: int) -> None:
        self.width_s = width_s
        self._sums: deque[tuple[int, int, Use]] = deque(maxlen=MAX_COLUMNS)
        """The number of the column, its samples, and their sum."""

    def add(self, now: float, use: Use) -> None:
        column = int(now // self.width_s)
        if self._sums and self._sums[-1][0] == column:
            _, count, total = self._sums.pop()
            use = Use(*(before + added for before, added in zip(total, use, strict=True)))
            self._sums.append((column, count + 1, use))
        else:
            self._sums.append((column, 1, use))

    def columns(self, now: float, count: int) -> tuple[Use | None, ...]:
        newest = int(now // self.width_s)
        means = {column: Use(*(value / number for value in total)) for column, number, total in self._sums}
        return tuple(means.get(column) for column in range(newest - count + 1, newest + 1))
