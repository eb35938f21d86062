"""Points in time of equal distance, from buckets of which empty ones are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from processor.core.fast_dataclass import dataclass
from processor.report.row_counts import LATENCY_GROWTH
from processor.report.time_buckets import TimeBucket, TimeBuckets

MAX_TABLE_ROWS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePoint:
    """What happened from ``begin`` on, for ``width_s`` seconds."""

    begin: float
    """Unix time."""
    width_s: int
    replies: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    in_flight: int
    """Requests in flight at the end."""
    first_token: Counter[int]
    total: Counter[int]

    @property
    def end(self) -> float:
        return self.begin + self.width_s


def points_of(buckets: TimeBuckets) -> list[TimePoint]:
    """Return a point for each width of time from the first bucket to the last, also where nothing happened."""
    known = dict(buckets.all())
    if not known:
        return []
    width, begin, last = buckets.width_s, min(known), max(known)
    points: list[TimePoint] = []
    in_flight = 0
    while begin <= last:
        bucket = known.get(begin) or TimeBucket()
        in_flight += bucket.in_flight_change
        points.append(_point(bucket, begin, width, in_flight))
        begin += width
    return points


def _point(bucket: TimeBucket, begin: float, width: int, in_flight: int) -> TimePoint:
    return TimePoint(
        begin=begin,
        width_s=width,
        replies=bucket.replies,
        failed=bucket.failed,
        prompt_tokens=bucket.prompt_tokens,
        completion_tokens=bucket.completion_tokens,
        in_flight=in_flight,
        first_token=bucket.first_token,
        total=bucket.total,
    )


def thinned(points: Sequence[TimePoint]) -> list[TimePoint]:
    """Return the points merged to at most MAX_TABLE_ROWS, with the same sums."""
    step = -(-len(points) // MAX_TABLE_ROWS)
    return [_merged(points[at : at + step], points[0].width_s * step) for at in range(0, len(points), step)]


def _merged(points: Sequence[TimePoint], width: int) -> TimePoint:
    bucket = TimeBucket()
    for point in points:
        bucket.replies += point.replies
        bucket.failed += point.failed
        bucket.prompt_tokens += point.prompt_tokens
        bucket.completion_tokens += point.completion_tokens
        bucket.first_token.update(point.first_token)
        bucket.total.update(point.total)
    return _point(bucket, points[0].begin, width, points[-1].in_flight)


def percentile(classes: Counter[int], share: float) -> float | None:
    """The duration that ``share`` of those counted do not exceed, to 5 %; None where none was counted."""
    left = share * classes.total()
    for number in sorted(classes):
        left -= classes[number]
        if left <= 0:
            return float(LATENCY_GROWTH ** (number + 0.5))
    return None
