"""The status of a run in one line: its parts, apart from how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from processor.core.events import Bottleneck
from processor.core.fast_dataclass import dataclass
from processor.stats.run_stats import RunStats
from processor.terminal.formatting import abbreviated, clock_time, duration, percent
from processor.terminal.label_table import Style

BOTTLENECK_LABELS: dict[Bottleneck | None, str] = {
    "requests": "requests",
    "tokens": "tokens",
    "in_flight": "concurrency",
    "cool_down": "cool-down",
    "outage": "outage",
    "back_off": "back-off",
    "input": "available jobs",
    None: "nothing",
}


MIN_WAIT_SHOWN_S = 1.0
MAX_RPM_SHOWN_SINGLY = 120
"""Up to so many requests a minute the wait for the next one is always shown."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One part of the status line."""

    value: str
    label: str = ""
    style: Style = ""
    priority: int = 0
    """Where the line is too long, parts with the lowest priority are left out first."""

    @property
    def text(self) -> str:
        return f"{self.label} {self.value}" if self.label else self.value


def finished_share(stats: RunStats) -> float | None:
    """The share of the jobs that have a reply or a failed row; None where the number of jobs is unknown."""
    if stats.jobs is None or stats.remaining is None:
        return None
    return 1 - stats.remaining / stats.jobs if stats.jobs else 1.0


def done_count(stats: RunStats) -> str:
    """``1,240/2,000``: jobs that have their reply, of all."""
    done = f"{stats.done + stats.done_earlier:,}"
    return done if stats.jobs is None else f"{done}/{stats.jobs:,}"


def time_left(stats: RunStats, now: float) -> str:
    """``3m 20s left``; empty where it cannot be estimated, in an outage, and while the run is stopping."""
    left_s = _left_s(stats, now)
    return "" if left_s is None else f"{duration(left_s)} left"


def _left_s(stats: RunStats, now: float) -> float | None:
    return None if stats.stop_reason or stats.throughput.bottleneck == "outage" else stats.eta_s(now)


def details(stats: RunStats, now: float) -> list[Detail]:
    used = stats.replies.used
    shown = [
        Detail(f"{stats.failed:,} failed", style="bad", priority=9) if stats.failed else None,
        *([] if stats.in_batches else _speed(stats, now)),
        Detail(f"{abbreviated(used.prompt + used.completion)} tokens", priority=1),
        Detail(f"{stats.replies.cost_usd:,.2f} USD", priority=3) if stats.replies.cost_usd is not None else None,
        Detail("simulated", priority=4) if stats.simulated else None,
        _bottleneck(stats),
        _next_request(stats, now),
    ]
    return [detail for detail in shown if detail is not None]


def _speed(stats: RunStats, now: float) -> list[Detail]:
    throughput = stats.throughput
    return [
        Detail(f"{stats.in_flight:,} in flight", priority=6),
        Detail(_used_of_limit(throughput.requests_last_minute(now), throughput.rpm), "RPM", priority=8),
        Detail(_used_of_limit(throughput.tokens_last_minute(now), throughput.tpm), "TPM", priority=7),
    ]


def fit_width(every: Sequence[Detail], width: int, gap: int) -> list[Detail]:
    """As many details as fit the width with ``gap`` columns between them; always at least one."""
    kept = list(every)
    while len(kept) > 1 and sum(len(detail.text) + gap for detail in kept) - gap > width:
        kept.remove(min(kept, key=lambda detail: detail.priority))
    return kept


def status_text(stats: RunStats, now: float) -> str:
    """All parts in one plain line, for a status report."""
    return f"[{duration(stats.elapsed_s(now))}] " + ", ".join(_parts(stats, now))


def log_text(stats: RunStats, now: float, unix_time: float) -> str:
    """The same for a log, which has the time of day before each line: with that of the end."""
    left_s = _left_s(stats, now)
    ends = [] if left_s is None else [f"ends at about {_clock_time(unix_time, left_s)}"]
    return ", ".join(_parts(stats, now) + ends)


def _parts(stats: RunStats, now: float) -> list[str]:
    share = finished_share(stats)
    parts = [
        done_count(stats) + " done" + ("" if share is None else f" ({percent(share)})"),
        *(detail.text for detail in details(stats, now)),
        time_left(stats, now),
    ]
    return [part for part in parts if part]


def _clock_time(unix_time: float, in_s: float) -> str:
    return clock_time(datetime.fromtimestamp(unix_time + in_s), datetime.fromtimestamp(unix_time))


def _used_of_limit(used: int, limit: float | None) -> str:
    return abbreviated(used) if limit is None else f"{abbreviated(used)}/{abbreviated(limit)}"


def _next_request(stats: RunStats, now: float) -> Detail | None:
    """When the next request goes, where it has to wait. At higher rates the number could not be read."""
    next_at, rpm = stats.next_request_at(now), stats.throughput.rpm
    if next_at is None or stats.stop_reason:
        return None
    wait_s = max(next_at - now, 0.0)
    if wait_s < MIN_WAIT_SHOWN_S and not (rpm and rpm <= MAX_RPM_SHOWN_SINGLY):
        return None
    what = "next probe in" if stats.throughput.bottleneck == "outage" else "next request in"
    return Detail(duration(wait_s), what, priority=6)


def _bottleneck(stats: RunStats) -> Detail | None:
    if stats.stop_reason:
        return Detail("stopping", style="warning", priority=10)
    bottleneck = stats.throughput.bottleneck
    if bottleneck is None:
        return None
    is_unusual = bottleneck in ("outage", "cool_down")
    style: Style = "warning" if is_unusual else ""
    return Detail(BOTTLENECK_LABELS[bottleneck], "limited by", style, priority=10 if is_unusual else 5)
