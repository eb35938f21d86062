"""The lines of the history: what a run is, then what happened in each minute. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import field

from processor.core.events import (
    ConcurrencyChanged,
    LimitsChanged,
    Notice,
    OutageEnded,
    OutageStarted,
    RunEvent,
)
from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON
from processor.stats.histogram import Histogram
from processor.stats.run_stats import RunStats

MAX_NOTICES = 20
"""Notices kept of one minute, and changes of concurrency."""
LATENCY_GROWTH = 1.25
"""Each bucket of a latency histogram is 25 % wider than the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """The first line of a run."""

    run: str
    """Tells the lines of this run from those of others."""
    version: str
    started_at: str
    """ISO 8601, UTC."""
    command: str
    process: int
    """Process id."""
    host: str
    """Name of the machine."""
    settings: JSON
    limits: JSON
    """As configured."""

    def as_json(self) -> JSON:
        return {
            "run": self.run,
            "version": self.version,
            "started_at": self.started_at,
            "command": self.command,
            "process": self.process,
            "host": self.host,
            "settings": self.settings,
            "limits": self.limits,
        }


@dataclass(slots=True, kw_only=True)
class _Totals:
    """What a run has counted at one moment; a line of the history holds the difference of two."""

    at: float
    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    sent_to: Counter[str] = field(default_factory=Counter)
    """Requests by endpoint, and replies."""
    answered_by: Counter[str] = field(default_factory=Counter)
    bound_by_s: Mapping[str, float] = field(default_factory=dict)
    first_token: Mapping[float, int] = field(default_factory=dict)
    total: Mapping[float, int] = field(default_factory=dict)
    cost_usd: float = 0.0
    unconfirmed_cost_usd: float = 0.0


class MinuteCounter:
    """Makes a line of what ``stats`` has counted since the line before, and of the events it is given itself."""

    event_types = (LimitsChanged, ConcurrencyChanged, Notice, OutageStarted, OutageEnded)

    def __init__(self, stats: RunStats, at: float) -> None:
        self._stats = stats
        self._before = _totals(stats, at)
        self._notices: list[str] = []
        self._concurrency: list[JSON] = []
        self._outages: dict[str, str] = {}
        """The messages of the outages that were on since the line before, by endpoint."""
        self._ended: set[str] = set()

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, Notice) and len(self._notices) < MAX_NOTICES:
            self._notices.append(event.text)
        elif isinstance(event, ConcurrencyChanged) and len(self._concurrency) < MAX_NOTICES:
            change = {"limit_group": event.limit_group, "limit": event.limit, "reason": event.reason}
            self._concurrency.append(change)
        elif isinstance(event, OutageStarted):
            self._outages[event.endpoint] = event.message
            self._ended.discard(event.endpoint)
        elif isinstance(event, OutageEnded):
            self._ended.add(event.endpoint)

    def next_line(self, run: str, at: float, time: str) -> JSON:
        """The line for what happened up to now. ``time`` is the present in ISO 8601, UTC."""
        stats, before = self._stats, self._before
        now = self._before = _totals(stats, at)
        line = {
            "run": run,
            "time": time,
            "seconds": round(now.at - before.at, 3),
            "done": now.counts["done"] - before.counts["done"],
            "failed": now.counts["failed"] - before.counts["failed"],
            "in_flight": stats.in_flight,
            "requests": now.counts["requests"] - before.counts["requests"],
            "tokens": {name: now.counts[name] - before.counts[name] for name in ("reserved", "prompt", "completion")},
            "limits": {
                group: {"rpm": limits.rpm, "tpm": limits.tpm, "source": limits.source}
                | {"server_rpm": limits.server_rpm, "server_tpm": limits.server_tpm, "counters": limits.counters}
                for group, limits in stats.throughput.limits.items()
            },
            "bound_by_s": _added_s(now.bound_by_s, before.bound_by_s),
            "refused": dict(now.refused - before.refused),
            "retried": dict(now.retried - before.retried),
            "first_token_s": _added_counts(now.first_token, before.first_token),
            "total_s": _added_counts(now.total, before.total),
            "cost_usd": None if stats.replies.cost_usd is None else round(now.cost_usd - before.cost_usd, 12),
            "unconfirmed_cost_usd": round(now.unconfirmed_cost_usd - before.unconfirmed_cost_usd, 12),
            "endpoints": _by_endpoint(now, before),
            "outages": dict(self._outages),
            **_workers(stats),
            "notices": self._notices,
            "concurrency": self._concurrency,
        }
        self._notices, self._concurrency = [], []
        self._outages = {name: text for name, text in self._outages.items() if name not in self._ended}
        self._ended.clear()
        return line


def _workers(stats: RunStats) -> JSON:
    """Nothing where the run sends its requests itself."""
    in_flight, lost = stats.in_flight_by_worker(), stats.lost_workers
    return {"workers": {"in_flight": dict(in_flight), "lost": lost}} if in_flight or lost else {}


def _by_endpoint(now: _Totals, before: _Totals) -> JSON:
    sent, answered = now.sent_to - before.sent_to, now.answered_by - before.answered_by
    names = [name for name in now.sent_to if name in sent or name in answered]
    return {name: {"requests": sent[name], "done": answered[name]} for name in names}


def _totals(stats: RunStats, at: float) -> _Totals:
    used = stats.replies.used
    return _Totals(
        at=at,
        counts=Counter(
            done=stats.done,
            failed=sum(failure.count for failure in stats.failures_by_code.values()),
            requests=stats.attempts,
            reserved=stats.reserved_tokens,
            prompt=used.prompt,
            completion=used.completion,
        ),
        sent_to=stats.attempts_by_endpoint.copy(),
        answered_by=stats.replies_by_endpoint.copy(),
        refused=stats.refused.copy(),
        retried=stats.retried.copy(),
        bound_by_s={name or "nothing": spent_s for name, spent_s in stats.throughput.bottleneck_s(at).items()},
        first_token=_latencies(stats.replies.first_token),
        total=_latencies(stats.replies.total),
        cost_usd=float(stats.replies.cost_usd or 0.0),
        unconfirmed_cost_usd=stats.costs.unconfirmed_usd or 0.0,
    )


def _latencies(histogram: Histogram) -> Mapping[float, int]:
    return histogram.counts_by_upper_bound(LATENCY_GROWTH)


def _added_s(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    added = {name: round(spent_s - before.get(name, 0.0), 3) for name, spent_s in now.items()}
    return {name: spent_s for name, spent_s in added.items() if spent_s > 0}


def _added_counts(now: Mapping[float, int], before: Mapping[float, int]) -> list[tuple[float, int]]:
    added = ((upper_s, count - before.get(upper_s, 0)) for upper_s, count in now.items())
    return [(upper_s, count) for upper_s, count in added if count]
