"""The run in a line: what progress shows, apart from how it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from processor.core.events import Bottleneck
from processor.stats.run_stats import RunStats
from processor.terminal.formatting import duration, percent, short
from processor.terminal.label_table import Style

BOUND_WORDS: dict[Bottleneck | None, str] = {
    "requests": "requests",
    "tokens": "tokens",
    "in_flight": "in flight",
    "cool_down": "cool-down",
    "outage": "outage",
    "input": "input",
    None: "nothing",
}


@dataclass(frozen=True, slots=True)
class Detail:
    """One thing to know. ``keep``: the larger, the longer it stays on a narrow terminal."""

    value: str
    label: str = ""
    style: Style = ""
    keep: int = 0

    @property
    def text(self) -> str:
        return f"{self.label} {self.value}" if self.label else self.value


def share(tally: RunStats) -> float | None:
    """How much of the job file is settled."""
    if tally.jobs is None or tally.unsettled is None:
        return None
    return 1 - tally.unsettled / tally.jobs if tally.jobs else 1.0


def counted(tally: RunStats) -> str:
    """``1,240/2,000``: jobs that have their reply, of all."""
    done = f"{tally.done + tally.done_before:,}"
    return done if tally.jobs is None else f"{done}/{tally.jobs:,}"


def left(tally: RunStats, now: float) -> str:
    """``3m 20s left``, or nothing where nobody knows."""
    eta_s = tally.eta_s(now)
    return "" if eta_s is None or tally.stopping else f"{duration(eta_s)} left"


def details(tally: RunStats, now: float) -> list[Detail]:
    used = tally.replies.used
    shown = [
        Detail(f"{tally.failures:,} failed", style="bad", keep=9) if tally.failures else None,
        Detail(f"{tally.in_flight:,} in flight", keep=6),
        Detail(_of(tally.pace.requests_last_minute(now), tally.pace.rpm), "RPM", keep=8),
        Detail(_of(tally.pace.tokens_last_minute(now), tally.pace.tpm), "TPM", keep=7),
        Detail(f"{short(used.prompt + used.completion)} tokens", keep=1),
        Detail("simulated", keep=4) if tally.simulated else None,
        _held_back(tally),
    ]
    return [detail for detail in shown if detail is not None]


def fit(every: Sequence[Detail], width: int, gap: int) -> list[Detail]:
    """As many as fit the width, the least important ones left out, in their order."""
    kept = list(every)
    while len(kept) > 1 and sum(len(detail.text) + gap for detail in kept) - gap > width:
        kept.remove(min(kept, key=lambda detail: detail.keep))
    return kept


def line(tally: RunStats, now: float) -> str:
    """All of it in one plain line: for a log, or for whoever asks what a run is doing."""
    settled = share(tally)
    parts = [
        counted(tally) + " done" + ("" if settled is None else f" ({percent(settled)})"),
        *(detail.text for detail in details(tally, now)),
        left(tally, now),
    ]
    return f"[{duration(tally.elapsed_s(now))}] " + ", ".join(part for part in parts if part)


def _of(used: int, limit: float | None) -> str:
    return short(used) if limit is None else f"{short(used)}/{short(limit)}"


def _held_back(tally: RunStats) -> Detail | None:
    if tally.stopping:
        return Detail("stopping", style="warning", keep=10)
    bound = tally.pace.bound
    if bound is None:
        return None
    unusual = bound in ("outage", "cool_down")
    return Detail(BOUND_WORDS[bound], "bound by", "warning" if unusual else "", keep=10 if unusual else 5)
