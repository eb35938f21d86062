"""Statistics of a run so far. A listener whose memory does not grow with the number of events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from processor.core.events import (
    AttemptFinished,
    AttemptStarted,
    BottleneckChanged,
    JobFinished,
    JobSkipped,
    LimitsChanged,
    ReplyInvalid,
    RunEvent,
    RunStarted,
    SkipReason,
    Stopping,
)
from processor.core.models import Failure, Result
from processor.core.worker_events import WorkerEnded
from processor.stats.cost_stats import CostStats
from processor.stats.reply_stats import ReplyStats, bounded_label
from processor.stats.throughput import Throughput

MAX_EXAMPLE_CHARS = 300
MAX_SKIPPED_EXAMPLES = 3
ANSWERED_OTHERWISE: tuple[SkipReason, ...] = ("changed", "other_model", "other_endpoint", "other_schema")
"""Reasons to skip a job although its reply is not to what this run would ask. ``--changed resend`` sends these."""


@dataclass(slots=True)
class FailureCount:
    """How many jobs failed with one code, and the first of them."""

    count: int
    example: str
    """The first one's custom_id, or its line."""
    message: str


class RunStats:
    """Counts only: it knows no clock, file or screen. ``now`` is the event loop's time, as in the events."""

    def __init__(self) -> None:
        self.replies = ReplyStats()
        self.throughput = Throughput()
        self.jobs: int | None = None
        """Jobs in the file; None where the number is unknown."""
        self.simulated = False
        self.in_batches = False
        """The provider sends the requests, whose speed and end are not known."""
        self.failures_by_code: dict[str, FailureCount] = {}
        self.permanent_failures = 0
        """Of the failures of this run, those that sending the job again cannot change."""
        self.skipped: Counter[SkipReason] = Counter()
        self.skipped_examples: dict[SkipReason, list[str]] = {}
        """By reason: the first of the jobs that have a reply to what this run would not ask."""
        self.attempts_by_endpoint: Counter[str] = Counter()
        self.replies_by_endpoint: Counter[str] = Counter()
        self.in_flight = 0
        self.retried: Counter[str] = Counter()
        """Attempts that failed and were followed by another, by error code."""
        self.refused: Counter[str] = Counter()
        """Responses that were no reply, by status code."""
        self.possibly_billed = 0
        """Attempts that ended without a reply after they were sent, and were not refused."""
        self.asked_again = 0
        """Replies that were not valid, and after which the job was asked again."""
        self.workers: list[WorkerEnded] = []
        """The workers of the run that have ended, with what they did."""
        self.in_flight_by_worker: Callable[[], Mapping[str, int]] = dict
        """Requests in flight at each worker that there is now; empty where the run sends its requests itself."""
        self.costs = CostStats()
        self.stop_reason: str | None = None
        self.last_event_at = 0.0
        self.next_start_at: Callable[[], float | None] = lambda: None
        """When the next request may start, on the event loop's clock; None where that is not known."""
        self.budget: Callable[[], tuple[float, float] | None] = lambda: None
        """What all runs on the output have spent, and may spend, in USD; None without a budget."""
        self.needed_budget_usd: Callable[[], float | None] = lambda: None
        """The least budget with which the next job could have been sent; None where the budget did not stop the run."""
        self._started_at: float | None = None
        self._done_at_start = 0
        self._handlers: dict[type[RunEvent], Callable[[Any], None]] = {
            RunStarted: self._on_run_started,
            JobSkipped: self._on_job_skipped,
            AttemptStarted: self._on_attempt_started,
            AttemptFinished: self._on_attempt_finished,
            JobFinished: self._on_job_finished,
            ReplyInvalid: self._on_reply_invalid,
            LimitsChanged: self.throughput.on_limits_changed,
            BottleneckChanged: self._on_bottleneck_changed,
            Stopping: self._on_stopping,
            WorkerEnded: self.workers.append,
        }

    def handler_of(self, kind: type[RunEvent]) -> Callable[[Any], None] | None:
        """What is called with events of this type; None for those that are not counted."""
        return self._handlers.get(kind)

    def __call__(self, event: RunEvent) -> None:
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    # ---------------------------------------------------------------- output

    @property
    def done(self) -> int:
        """Jobs that got their reply in this run."""
        return self.replies.count

    @property
    def attempts(self) -> int:
        """Requests that were sent."""
        return self.throughput.sent.all_count

    @property
    def reserved_tokens(self) -> int:
        """Tokens reserved from the token limits for all requests."""
        return self.throughput.sent.all_amounts

    @property
    def done_earlier(self) -> int:
        """Jobs that have their reply from earlier runs. Exact once the job file is read to its end."""
        skipped = self.skipped.total() - self.skipped["failed_permanently"]
        earlier = max(self._done_at_start, skipped)
        return earlier if self.jobs is None else max(min(earlier, self.jobs - self.done - self.failed), skipped)

    @property
    def failed(self) -> int:
        """Jobs with a failed row: those of this run and the permanent failures of earlier runs."""
        return sum(failure.count for failure in self.failures_by_code.values()) + self.skipped["failed_permanently"]

    @property
    def remaining(self) -> int | None:
        """Jobs with neither reply nor failed row yet; None where the number of jobs is unknown."""
        return None if self.jobs is None else max(self.jobs - self.done_earlier - self.done - self.failed, 0)

    @property
    def lost_workers(self) -> int:
        return sum(ended.reason is not None for ended in self.workers)

    def next_request_at(self, now: float) -> float | None:
        """When the next request may start, or the first job in its back-off is sent again; None where that is open."""
        next_at = self.next_start_at()
        return self.throughput.next_attempt_at(now) if next_at is None and self.is_backing_off else next_at

    @property
    def is_backing_off(self) -> bool:
        """Whether no job waits to be sent because jobs wait before a further attempt."""
        return self.throughput.bottleneck == "back_off"

    def elapsed_s(self, now: float) -> float:
        return 0.0 if self._started_at is None else max(now - self._started_at, 0.0)

    def eta_s(self, now: float) -> float | None:
        """Seconds to the end at the recent speed; None where it cannot be estimated."""
        remaining = self.remaining
        if remaining is None or self.in_batches:
            return None
        tokens_a_job = self.reserved_tokens / self.attempts if self.attempts else 0.0
        return self.throughput.eta_s(remaining, now, self.elapsed_s(now), tokens_a_job=tokens_a_job)

    # ---------------------------------------------------------------- event handlers

    def _on_run_started(self, event: RunStarted) -> None:
        self._started_at = self.last_event_at = event.at
        self.jobs = event.jobs
        self.simulated = event.simulated
        self._done_at_start = event.done

    def _on_job_skipped(self, event: JobSkipped) -> None:
        self.skipped[event.reason] += event.count
        if event.reason in ANSWERED_OTHERWISE and event.custom_id is not None:
            examples = self.skipped_examples.setdefault(event.reason, [])
            if len(examples) < MAX_SKIPPED_EXAMPLES:
                examples.append(event.custom_id[:MAX_EXAMPLE_CHARS])

    def _on_attempt_started(self, event: AttemptStarted) -> None:
        self.last_event_at = event.at
        self.attempts_by_endpoint[bounded_label(event.endpoint, self.attempts_by_endpoint)] += 1
        self.in_flight += 1
        self.throughput.record_sent(event.custom_id, event.at, event.tokens)

    def _on_attempt_finished(self, event: AttemptFinished) -> None:
        self.last_event_at = event.at
        self.in_flight -= 1
        if event.code is None:
            return
        self.costs.add_unconfirmed(event.model, event.endpoint, event.unconfirmed_cost_usd)
        if event.outcome in ("retry", "replace"):
            self.retried[bounded_label(event.code, self.retried)] += 1
            if event.retry_delay_s:
                self.throughput.record_back_off(event.custom_id, event.at, event.retry_delay_s)
        refused = event.status is not None and event.status >= 300
        if refused:
            self.refused[bounded_label(str(event.status), self.refused)] += 1
        elif event.code != "connect_failed":
            self.possibly_billed += 1

    def _on_reply_invalid(self, event: ReplyInvalid) -> None:
        self.last_event_at = event.at
        self.asked_again += event.is_asked_again

    def _on_job_finished(self, event: JobFinished) -> None:
        self.last_event_at = event.at
        self.throughput.record_finished(event.at)
        result, failure = event.result, event.result.failure
        self.costs.add_row(event.model, event.endpoint, result.cost_usd, is_reply=failure is None)
        if failure is not None:
            self.replies.add_paid(result)
            self._add_failure(result, failure)
            return
        self.replies.add(result)
        if event.endpoint is not None:
            self.replies_by_endpoint[bounded_label(event.endpoint, self.attempts_by_endpoint)] += 1

    def _add_failure(self, result: Result, failure: Failure) -> None:
        self.permanent_failures += failure.permanent
        code = bounded_label(failure.code, self.failures_by_code)
        if code in self.failures_by_code:
            self.failures_by_code[code].count += 1
            return
        example = result.custom_id if result.custom_id is not None else f"line {result.line}"
        self.failures_by_code[code] = FailureCount(1, example[:MAX_EXAMPLE_CHARS], failure.message[:MAX_EXAMPLE_CHARS])

    def _on_bottleneck_changed(self, event: BottleneckChanged) -> None:
        self.last_event_at = event.at
        self.throughput.on_bottleneck_changed(event)

    def _on_stopping(self, event: Stopping) -> None:
        self.last_event_at = event.at
        self.stop_reason = event.reason
