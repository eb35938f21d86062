"""The run so far, in numbers. Listens to events; its memory does not grow with their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from processor.core.events import (
    AttemptFinished,
    AttemptStarted,
    BottleneckChanged,
    JobFinished,
    JobSkipped,
    LimitsChanged,
    RunEvent,
    RunStarted,
    SkipReason,
    Stopping,
)
from processor.core.models import Failure, Result
from processor.stats.reply_stats import Replies, bounded_label
from processor.stats.throughput import Throughput

EXAMPLE_CHARS = 300
MOST_CHANGED_NAMED = 3


@dataclass(slots=True)
class FailureCount:
    """Jobs that failed with one code, and the first of them."""

    count: int
    example: str
    """The first one's custom_id, or its line."""
    message: str


class RunStats:
    """Sums only: nothing here knows a clock, a file or a screen. ``now`` is the event loop's time, as in the events."""

    def __init__(self) -> None:
        self.replies = Replies()
        self.pace = Throughput()
        self.jobs: int | None = None
        """Jobs in the file, where it is known."""
        self.simulated = False
        """Nobody is billed."""
        self.failed: dict[str, FailureCount] = {}
        self.own_fault = 0
        """Of the failed ones, those the provider refused for themselves: sending them again is pointless."""
        self.skipped: Counter[SkipReason] = Counter()
        self.changed: list[str] = []
        """The first of the jobs that were edited since they were answered."""
        self.attempts = 0
        self.in_flight = 0
        self.retried: Counter[str] = Counter()
        """Attempts that failed and were followed by another, by code."""
        self.maybe_billed = 0
        """Attempts that broke off after they were sent, with nothing to show for it."""
        self.stopping: str | None = None
        self.last_at = 0.0
        self._started_at: float | None = None
        self._done_at_start = 0
        self._hear: dict[type[RunEvent], Callable[[Any], None]] = {
            RunStarted: self._run_started,
            JobSkipped: self._job_skipped,
            AttemptStarted: self._attempt_started,
            AttemptFinished: self._attempt_ended,
            JobFinished: self._job_finished,
            LimitsChanged: self.pace.limits_known,
            BottleneckChanged: self._bound_by,
            Stopping: self._stopping,
        }

    def __call__(self, event: RunEvent) -> None:
        hear = self._hear.get(type(event))
        if hear is not None:
            hear(event)

    # ---------------------------------------------------------------- what is asked of it

    @property
    def done(self) -> int:
        """Jobs that got their reply in this run."""
        return self.replies.count

    @property
    def done_before(self) -> int:
        """Jobs that have their reply from earlier runs. Exact once the job file is read to its end."""
        skipped = self.skipped["done"] + self.skipped["changed"]
        before = max(self._done_at_start, skipped)
        return before if self.jobs is None else max(min(before, self.jobs - self.done - self.failures), skipped)

    @property
    def failures(self) -> int:
        """Jobs without a reply whose failure stands, from this run or, where it was their own fault, an earlier one."""
        return sum(failed.count for failed in self.failed.values()) + self.skipped["failed_permanently"]

    @property
    def unsettled(self) -> int | None:
        """Jobs that have neither reply nor failure yet; None where the number of jobs is not known."""
        return None if self.jobs is None else max(self.jobs - self.done_before - self.done - self.failures, 0)

    def elapsed_s(self, now: float) -> float:
        return 0.0 if self._started_at is None else max(now - self._started_at, 0.0)

    def eta_s(self, now: float) -> float | None:
        """Seconds to the end at the recent pace; None where nothing tells."""
        return None if self.unsettled is None else self.pace.seconds_for(self.unsettled, now, self.elapsed_s(now))

    # ---------------------------------------------------------------- what it hears

    def _run_started(self, event: RunStarted) -> None:
        self._started_at = self.last_at = event.at
        self.jobs = event.jobs
        self.simulated = event.simulated
        self._done_at_start = event.done

    def _job_skipped(self, event: JobSkipped) -> None:
        self.skipped[event.reason] += event.count
        if event.reason == "changed" and event.custom_id is not None and len(self.changed) < MOST_CHANGED_NAMED:
            self.changed.append(event.custom_id[:EXAMPLE_CHARS])

    def _attempt_started(self, event: AttemptStarted) -> None:
        self.last_at = event.at
        self.attempts += 1
        self.in_flight += 1
        self.pace.sent(event.at, event.tokens)

    def _attempt_ended(self, event: AttemptFinished) -> None:
        self.last_at = event.at
        self.in_flight -= 1
        if event.code is None:
            return
        if event.outcome in ("retry", "replace"):
            self.retried[bounded_label(event.code, self.retried)] += 1
        refused = event.status is not None and event.status >= 400
        if not refused and event.code != "connect_failed":
            self.maybe_billed += 1

    def _job_finished(self, event: JobFinished) -> None:
        self.last_at = event.at
        self.pace.finished(event.at)
        if event.result.failure is None:
            self.replies.add(event.result)
        else:
            self._job_failed(event.result, event.result.failure)

    def _job_failed(self, result: Result, failure: Failure) -> None:
        self.own_fault += failure.permanent
        code = bounded_label(failure.code, self.failed)
        if code in self.failed:
            self.failed[code].count += 1
            return
        example = result.custom_id if result.custom_id is not None else f"line {result.line}"
        self.failed[code] = FailureCount(1, example[:EXAMPLE_CHARS], failure.message[:EXAMPLE_CHARS])

    def _bound_by(self, event: BottleneckChanged) -> None:
        self.last_at = event.at
        self.pace.bound_by(event)

    def _stopping(self, event: Stopping) -> None:
        self.last_at = event.at
        self.stopping = event.reason
