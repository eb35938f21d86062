"""The speed of a run, the limits in force, and the bottleneck."""

from __future__ import annotations

from processor.core.events import Bottleneck, BottleneckChanged, LimitsChanged
from processor.stats.reply_stats import MAX_LABELS

RECENT_S = 300
"""The time left is estimated from the last five minutes: long enough to be steady, short enough to follow a change."""


class Throughput:
    def __init__(self) -> None:
        self.limits: dict[str, LimitsChanged] = {}
        """The last change, by limit group."""
        self.bottleneck: Bottleneck | None = None
        self._reported_bottleneck: Bottleneck | None = None
        self._next_attempts: dict[str, float] = {}
        """When the back-off of a job ends, by its id."""
        self._last_attempt_at = 0.0
        """When the last of them ends."""
        self._bottleneck_since: float | None = None
        self._bottleneck_s: dict[Bottleneck | None, float] = {}
        """Seconds spent on each bottleneck before the present one."""
        self.sent = RollingWindow(60, 60)
        """Requests, and the tokens reserved for them."""
        self._finished = RollingWindow(RECENT_S, 60)

    # ---------------------------------------------------------------- input

    def record_sent(self, custom_id: str, at: float, tokens: int) -> None:
        self.sent.add(at, tokens)
        if self._next_attempts and self._next_attempts.pop(custom_id, None) is not None:
            self._update_bottleneck(at)

    def record_finished(self, at: float) -> None:
        self._finished.add(at - self._outage_s(at))

    def on_limits_changed(self, event: LimitsChanged) -> None:
        if event.limit_group in self.limits or len(self.limits) < MAX_LABELS:
            self.limits[event.limit_group] = event

    def on_bottleneck_changed(self, event: BottleneckChanged) -> None:
        self._reported_bottleneck = event.bottleneck
        self._update_bottleneck(event.at)

    def record_back_off(self, custom_id: str, at: float, delay_s: float) -> None:
        """A job waits before a further attempt."""
        self._next_attempts[custom_id] = at + delay_s
        self._last_attempt_at = max(self._last_attempt_at, at + delay_s)
        self._update_bottleneck(at)

    def _update_bottleneck(self, at: float) -> None:
        # A job that left its queue for another reason, which no event tells, counts until its back-off has ended.
        is_back_off = self._reported_bottleneck == "input" and self._next_attempts and self._last_attempt_at > at
        bottleneck = "back_off" if is_back_off else self._reported_bottleneck
        self._bottleneck_s = self._bottleneck_s_until(at)
        self.bottleneck, self._bottleneck_since = bottleneck, at

    # ---------------------------------------------------------------- output

    def requests_last_minute(self, now: float) -> int:
        return self.sent.count(now)

    def next_attempt_at(self, now: float) -> float | None:
        """When the first of the jobs in their back-off is sent again; None where none is in it."""
        return min((at for at in self._next_attempts.values() if at > now), default=None)

    def tokens_last_minute(self, now: float) -> int:
        """As reserved when the requests were sent."""
        return self.sent.total(now)

    @property
    def rpm(self) -> float | None:
        """The limit, summed over the limit groups; None where a group has none."""
        return _sum([limits.rpm for limits in self.limits.values()])

    @property
    def tpm(self) -> float | None:
        return _sum([limits.tpm for limits in self.limits.values()])

    def eta_s(self, jobs: int, now: float, elapsed_s: float, *, tokens_a_job: float = 0.0) -> float | None:
        """Seconds that so many jobs will take, at the recent speed and within the limits; None if nothing finished."""
        outage_s = self._outage_s(now)  # during an outage the time left stands still
        finished = self._finished.count(now - outage_s)
        if not finished:
            return None
        at_recent_speed_s = jobs * min(elapsed_s - outage_s, RECENT_S) / finished
        by_requests_s = self._min_s_within_limit(jobs, self.rpm, self.requests_last_minute(now))
        by_tokens_s = self._min_s_within_limit(jobs * tokens_a_job, self.tpm, self.tokens_last_minute(now))
        return max(at_recent_speed_s, by_requests_s, by_tokens_s)

    def _min_s_within_limit(self, amount: float, limit: float | None, used: float) -> float:
        """After a burst the recent speed promises more than the limit allows."""
        if not limit:
            return 0.0
        is_outage = self.bottleneck == "outage"
        left_this_minute = 0.0 if is_outage else max(limit - used, 0.0)
        return max(amount - left_this_minute, 0.0) * 60 / limit

    def bottleneck_shares(self, now: float) -> list[tuple[Bottleneck | None, float]]:
        """Each bottleneck with its share of the run's time, largest first. None stands for waiting for nothing."""
        spent_s = self._bottleneck_s_until(now)
        total_s = sum(spent_s.values())
        by_share = sorted(spent_s.items(), key=lambda item: item[1], reverse=True)
        return [(bottleneck, seconds / total_s) for bottleneck, seconds in by_share if seconds > 0]

    def bottleneck_s(self, now: float) -> dict[Bottleneck | None, float]:
        """Seconds spent on each bottleneck up to now. None stands for waiting for nothing."""
        return self._bottleneck_s_until(now)

    def _bottleneck_s_until(self, now: float) -> dict[Bottleneck | None, float]:
        if self._bottleneck_since is None:
            return {}
        passed_s = max(now - self._bottleneck_since, 0.0)
        return {**self._bottleneck_s, self.bottleneck: self._bottleneck_s.get(self.bottleneck, 0.0) + passed_s}

    def _outage_s(self, now: float) -> float:
        """Seconds of outage up to now."""
        past_s = self._bottleneck_s.get("outage", 0.0)
        if self.bottleneck == "outage" and self._bottleneck_since is not None:
            return past_s + max(now - self._bottleneck_since, 0.0)
        return past_s


def _sum(limits: list[float | None]) -> float | None:
    known = [limit for limit in limits if limit is not None]
    return sum(known) if known and len(known) == len(limits) else None


class RollingWindow:
    """Counts events and sums their amounts: in all, and over the last ``span_s`` seconds.

    What is recent is the growth since a ring of buckets turned over: exact to the width of one bucket.
    """

    def __init__(self, span_s: float, buckets: int) -> None:
        self.span_s = span_s
        self.all_count = 0
        self.all_amounts = 0
        self._width_s = span_s / buckets
        self._before = [(0, 0)] * buckets
        """For each bucket the count and the total when it began."""
        self._newest = 0
        self._newest_ends_at = self._width_s

    def add(self, at: float, amount: int = 1) -> None:
        if at >= self._newest_ends_at:
            self._advance_to(at)
        self.all_count += 1
        self.all_amounts += amount

    def count(self, at: float) -> int:
        """The events of a time that ends at ``at`` and is as long as the span, or up to one bucket shorter."""
        return self.all_count - self._before_oldest(at)[0]

    def total(self, at: float) -> int:
        """The sum of their amounts."""
        return self.all_amounts - self._before_oldest(at)[1]

    def _before_oldest(self, at: float) -> tuple[int, int]:
        self._advance_to(at)
        return self._before[(self._newest + 1) % len(self._before)]

    def _advance_to(self, at: float) -> None:
        bucket = int(at / self._width_s)
        for passed in range(max(self._newest, bucket - len(self._before)), bucket):
            self._before[(passed + 1) % len(self._before)] = self.all_count, self.all_amounts
        self._newest = max(self._newest, bucket)
        self._newest_ends_at = (self._newest + 1) * self._width_s
