"""How fast the run goes, how fast it may, and what holds it back."""

from __future__ import annotations

from processor.core.events import Bottleneck, BottleneckChanged, LimitsChanged
from processor.stats.reply_stats import MAX_LABELS
from processor.stats.rolling_window import RollingWindow

RECENT_S = 300
"""What is left is foretold from the last five minutes: long enough to be steady, short enough to follow a change."""


class Throughput:
    def __init__(self) -> None:
        self.limits: dict[str, LimitsChanged] = {}
        self.bound: Bottleneck | None = None
        self._bound_since: float | None = None
        self._bound_s: dict[Bottleneck | None, float] = {}
        self._requests = RollingWindow(60, 60)
        self._tokens = RollingWindow(60, 60)
        self._finished = RollingWindow(RECENT_S, 60)

    # ---------------------------------------------------------------- what it hears

    def sent(self, at: float, tokens: int) -> None:
        self._requests.add(at)
        self._tokens.add(at, tokens)

    def finished(self, at: float) -> None:
        self._finished.add(at)

    def limits_known(self, event: LimitsChanged) -> None:
        if event.limit_group in self.limits or len(self.limits) < MAX_LABELS:
            self.limits[event.limit_group] = event

    def bound_by(self, event: BottleneckChanged) -> None:
        self._bound_s = self._bound_until(event.at)
        self.bound = event.bottleneck
        self._bound_since = event.at

    # ---------------------------------------------------------------- what is asked of it

    def requests_last_minute(self, now: float) -> int:
        return self._requests.total(now)

    def tokens_last_minute(self, now: float) -> int:
        """As charged when they were sent."""
        return self._tokens.total(now)

    @property
    def rpm(self) -> float | None:
        """The limit, summed over the limit groups; None where one has none."""
        return _sum([limits.rpm for limits in self.limits.values()])

    @property
    def tpm(self) -> float | None:
        return _sum([limits.tpm for limits in self.limits.values()])

    def seconds_for(self, jobs: int, now: float, elapsed_s: float) -> float | None:
        """How long so many more will take at the recent pace, and within the limit; None where nothing tells."""
        finished = self._finished.total(now)
        return max(jobs * min(elapsed_s, RECENT_S) / finished, self._least_s(jobs, now)) if finished else None

    def _least_s(self, jobs: int, now: float) -> float:
        """After a burst the limit knows better than the pace."""
        if not self.rpm:
            return 0.0
        at_once = max(self.rpm - self.requests_last_minute(now), 0.0)
        return max(jobs - at_once, 0.0) * 60 / self.rpm

    def bound_shares(self, now: float) -> list[tuple[Bottleneck | None, float]]:
        """What the run waited for, as shares of its time, largest first. None stands for nothing."""
        spent = self._bound_until(now)
        whole = sum(spent.values())
        by_share = sorted(spent.items(), key=lambda item: item[1], reverse=True)
        return [(bound, seconds / whole) for bound, seconds in by_share if seconds > 0]

    def _bound_until(self, now: float) -> dict[Bottleneck | None, float]:
        if self._bound_since is None:
            return {}
        passed = max(now - self._bound_since, 0.0)
        return {**self._bound_s, self.bound: self._bound_s.get(self.bound, 0.0) + passed}


def _sum(limits: list[float | None]) -> float | None:
    known = [limit for limit in limits if limit is not None]
    return sum(known) if known and len(known) == len(limits) else None
