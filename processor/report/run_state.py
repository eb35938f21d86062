"""How the last run of an output stands, as its files tell it."""

from __future__ import annotations

from pathlib import Path

from processor.core.fast_dataclass import dataclass
from processor.output.paths import OutputPaths
from processor.report.run_history import Period, RunRecord, read_runs

FRESH_S = 90.0
"""A run that is at work has written to its history no longer ago: it does so each minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """All counts are those of the files at this moment."""

    replies: int
    """Rows of the results file: a row that a newer one replaces counts until the run has ended."""
    failures: int
    run: RunRecord | None
    """None where there is no history."""
    last: Period | None
    """The last minute in the history."""
    age_s: float | None
    """Seconds since the last row or line of history was written; None where there is none."""
    open_batches: int = 0
    jobs_in_batches: int = 0

    @property
    def may_be_at_work(self) -> bool:
        return self.age_s is not None and self.age_s < FRESH_S


def state_of(paths: OutputPaths, now: float) -> RunState:
    """Return how the output stands. ``now`` is the Unix time. Raises OSError."""
    runs = read_runs(paths.history)
    run = runs[-1] if runs else None
    written = [path.stat().st_mtime for path in (paths.replies, paths.failures, paths.history) if path.exists()]
    return RunState(
        replies=_lines(paths.replies),
        failures=_lines(paths.failures),
        run=run,
        last=run.periods[-1] if run and run.periods else None,
        age_s=max(now - max(written), 0.0) if written else None,
    )


def _lines(path: Path) -> int:
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
