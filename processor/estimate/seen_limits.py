"""What an earlier run has found out about the limits of the server: how large they are, and how it counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from math import inf
from typing import Literal

from processor.core.fast_dataclass import dataclass
from processor.core.json_reading import fields_of, number_of
from processor.core.models import JSON

CounterKind = Literal["window", "bucket"]

SMALL_BUCKET_S = 5.0
"""A bucket that is full again so soon is paced evenly: bursts gain nothing there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """How a server counts what a limit of a minute allows."""

    kind: CounterKind
    period_s: float = 60.0
    """The length of the window, or the time in which an empty bucket is full again."""
    is_announced: bool = True
    """False where headers promise a minute's burst and the server refuses it."""
    is_assumed: bool = False
    """Whether no earlier run has found it out."""

    @property
    def is_small(self) -> bool:
        return self.kind == "bucket" and self.period_s < SMALL_BUCKET_S


def likeliest_counter(period_s: float) -> Counter:
    """The counter that is assumed where no earlier run tells: a bucket, as most providers document it."""
    return Counter(kind="bucket", period_s=period_s, is_assumed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Limits per minute of a server. None: not known; inf: it announces none."""

    rpm: float | None = None
    tpm: float | None = None
    counters: Mapping[str, Counter] = field(default_factory=dict)
    """How it counts, by resource, where that was found out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLimits:
    """What an earlier run tells about the limits of the server."""

    by_group: Mapping[str, ServerLimits] = field(default_factory=dict)
    """By limit group, where the server has announced any."""
    is_silent: bool = False
    """Whether replies came and no limit was announced."""

    def of(self, group: str) -> ServerLimits:
        """The limits of a group. Where one alone was seen, it may have had another name: limits given rename it."""
        if group in self.by_group:
            return self.by_group[group]
        if len(self.by_group) == 1:
            return next(iter(self.by_group.values()))
        return ServerLimits(rpm=inf, tpm=inf) if self.is_silent else ServerLimits()


def seen_in(history: Iterable[JSON]) -> SeenLimits | None:
    """Return what the lines of a history tell; None where no run has had a reply."""
    by_group: dict[str, ServerLimits] = {}
    has_replies = False
    for line in history:
        has_replies = has_replies or bool(line.get("done"))
        for group, values in fields_of(line.get("limits")).items() if "time" in line else ():
            limits = fields_of(values)
            if limits.get("source") == "reported":
                by_group[group] = _server_limits(limits, by_group.get(group, ServerLimits()))
    return SeenLimits(by_group=by_group, is_silent=not by_group) if by_group or has_replies else None


def _server_limits(limits: JSON, before: ServerLimits) -> ServerLimits:
    """``before``: as earlier lines tell. A short run may end before it has found out how the server counts."""
    counters = {
        resource: counter
        for resource, found in fields_of(limits.get("counters")).items()
        if (counter := _counter(fields_of(found))) is not None
    }
    return ServerLimits(
        rpm=number_of(limits.get("server_rpm")) or inf,
        tpm=number_of(limits.get("server_tpm")) or inf,
        counters={**before.counters, **counters},
    )


def _counter(found: JSON) -> Counter | None:
    kind, period_s = found.get("kind"), number_of(found.get("period_s"))
    if kind not in ("window", "bucket") or not period_s or period_s <= 0:
        return None
    return Counter(kind=kind, period_s=period_s, is_announced=found.get("is_announced") is not False)
