"""How the last run of an output stands, as its files tell it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal

from processor.core.fast_dataclass import dataclass
from processor.core.processes import process_exists
from processor.output.paths import OutputPaths
from processor.report.run_history import Period, RunRecord, read_runs

FRESH_S = 90.0
"""A run that is at work has written to its history no longer ago: it does so each minute."""

RunPhase = Literal["at_work", "ended", "killed", "unknown"]


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
    phase: RunPhase = "unknown"
    """Of the last run. ``killed``: its process is gone, and did not say that the run ended. ``unknown``: nothing is
    known of its process, and it has not written lately."""
    open_batches: int = 0
    jobs_in_batches: int = 0

    @property
    def may_be_at_work(self) -> bool:
        return self.phase == "at_work"


def state_of(paths: OutputPaths, now: float) -> RunState:
    """Return how the output stands. ``now`` is the Unix time. Raises OSError."""
    runs = read_runs(paths.history)
    run = runs[-1] if runs else None
    written = [path.stat().st_mtime for path in (paths.replies, paths.failures, paths.history) if path.exists()]
    age_s = max(now - max(written), 0.0) if written else None
    return RunState(
        replies=_lines(paths.replies),
        failures=_lines(paths.failures),
        run=run,
        last=run.periods[-1] if run and run.periods else None,
        age_s=age_s,
        phase=_phase(run, is_fresh=age_s is not None and age_s < FRESH_S),
    )


def _phase(run: RunRecord | None, *, is_fresh: bool) -> RunPhase:
    if run is not None and run.exit_code is not None:
        return "ended"
    if run is not None and run.process and run.host == socket.gethostname() and process_exists(run.process) is False:
        return "killed"
    return "at_work" if is_fresh else "unknown"


def _lines(path: Path) -> int:
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
