"""The health of one endpoint, and the verdict on every failed request: is it the job, the run, or the endpoint?

| Question                                                | Answered by                                    |
|---------------------------------------------------------|------------------------------------------------|
| May more than one request be sent yet?                  | ``Canary``                                     |
| Can no request to this endpoint succeed (key, address)? | ``EndpointHealth._unusable``                   |
| May it be the job's fault, or everybody's?              | ``causes.cause_of``, ``ParkedJobs``            |
| Is nothing sent to a model, or for a limit group?       | ``EndpointHealth.closed_reason``               |
| Is the endpoint down?                                   | ``OutageDetector``                             |
| Is the job sent again, and when?                        | ``RetryPolicy``                                |

The state is kept for one endpoint; what concerns a model or a limit group, for each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

from processor.core.errors import (
    AccessDenied,
    AddressError,
    BadRequest,
    ConnectError,
    EndpointUnusable,
    Redirected,
    RequestError,
    StreamTruncated,
)
from processor.core.events import Bottleneck, BottleneckChanged, Listener, OutageEnded, OutageStarted, RunEvent
from processor.core.models import Failure, Job
from processor.core.process_errors import WorkerLost
from processor.core.text import never_reached
from processor.health.canary import TIMEOUT_WITH_KEY_S, Canary
from processor.health.causes import Cause, CauseKind, cause_of
from processor.health.descriptions import description, refused
from processor.health.failed_attempt import FailedAttempt
from processor.health.outage_detector import OutageDetector, indicates_outage
from processor.health.parked_jobs import ParkedJob, ParkedJobs
from processor.health.probe_turn import ProbeTurn
from processor.retry.policy import (
    AttemptHistory,
    Defer,
    FailJob,
    LeaveJob,
    Park,
    Retry,
    RetryPolicy,
    StopRun,
    Verdict,
    counts_against_job,
)

MAX_REJECTIONS = 20
"""Stop the run after so many rejections of one kind (status and error code), without a success."""


class EndpointHealth:
    """Follows the requests to one endpoint. Jobs are known by their line; times are the event loop's."""

    def __init__(
        self,
        policy: RetryPolicy,
        emit: Listener,
        *,
        endpoint: str,
        max_outage_s: float,
        canary_timeout_s: float = TIMEOUT_WITH_KEY_S,
        is_only: bool = True,
    ) -> None:
        """``endpoint``: its name, for events. ``is_only``: there is no other, so that a wrong address ends the run."""
        self._policy = policy
        self._emit = emit
        self._endpoint = endpoint
        self._is_only = is_only
        self.canary = Canary(canary_timeout_s)
        self._on_available: Callable[[], None] = lambda: None
        self.stopped_reason: str | None = None
        """Why nothing is sent to this endpoint any more in this run."""
        self.parked = ParkedJobs()
        self.outages = OutageDetector(max_outage_s=max_outage_s)
        self._closed: dict[Cause, str] = {}
        """Why nothing is sent any more to these models, or for these limit groups."""
        self._limiter_bottleneck: Bottleneck | None = None
        self.probe_turn = ProbeTurn(self.outages)
        self.has_succeeded = False
        self._has_failed = False
        self._has_responded = False  # with something other than a failed connection
        self._rejections: dict[str, int] = {}
        """How many requests were rejected, by kind."""
        self._unresolved_since: dict[int, float] = {}
        """By position, oldest first: when those requests were sent that have not failed or begun to be answered."""

    @property
    def is_down(self) -> bool:
        return self.outages.down_since is not None

    def call_when_available(self, callback: Callable[[], None]) -> None:
        """Call back whenever more may be sent than before: after the canary, and when an outage is over."""
        self._on_available = self.canary.on_available = callback

    @property
    def is_unreachable(self) -> bool:
        """Whether requests were sent, and no connection has been made yet."""
        return self._has_failed and not (self._has_responded or self.has_succeeded)

    # ------------------------------------------------------------ what happens to requests

    def on_sent(self, position: int, at: float) -> None:
        """A request for the job at this position is being sent."""
        self._unresolved_since[position] = at
        if not self.canary.is_cleared:
            self.canary.on_sent()

    def on_first_token(self, position: int, sent_at: float, now: float) -> None:
        self.canary.on_understood()
        self._unresolved_since.pop(position, None)
        if self.outages.on_first_token(sent_at):
            self._emit_recovery(now)

    def on_success(self, position: int, sent_at: float, now: float) -> None:
        """A reply is complete. Parked jobs are released later, by ``on_reply_written``."""
        self.canary.on_understood()
        self.has_succeeded = True
        self._unresolved_since.pop(position, None)
        if self.outages.on_answer(sent_at):
            self._emit_recovery(now)

    def on_reply_written(self, job: Job, limit_group: str, sent_at: float) -> None:
        """The row of a reply is on disk: parked jobs to which the same applies are at fault themselves."""
        self.parked.on_success(job, limit_group, sent_at)

    def on_failure(self, error: RequestError, attempt: FailedAttempt, history: AttemptHistory) -> Verdict:
        """Return what follows from a failed request for its job or for the run, and add it to the job's history."""
        self._has_failed = True
        self._has_responded |= not isinstance(error, ConnectError | WorkerLost)
        self._unresolved_since.pop(attempt.job.position, None)
        if not isinstance(error, WorkerLost):  # which says nothing about the endpoint
            self._watch_for_outage(error, attempt)
        verdict = self._verdict(error, attempt, history)
        history.record(verdict, error, attempt.now, self.outages.explains_failure_at)
        if not (isinstance(verdict, Retry) and verdict.is_replacement):
            self.canary.on_refused()
        return verdict

    # ------------------------------------------------------------ is it the job or the run?

    def closed_reason(self, model: str, limit_group: str) -> str | None:
        """Return why nothing more is sent to this model, or for this limit group, in this run; None if it is."""
        if self.stopped_reason is not None:
            return self.stopped_reason
        for cause, reason in self._closed.items():
            if cause.concerns == (limit_group if cause.kind is CauseKind.LONG_WAIT else model):
                return reason
        return None

    @property
    def has_closed(self) -> bool:
        """Whether there is such a model or limit group."""
        return bool(self._closed) or self.stopped_reason is not None

    @property
    def closed_reasons(self) -> list[str]:
        return [reason for reason in (self.stopped_reason, *self._closed.values()) if reason is not None]

    def stop(self, reason: str) -> None:
        """Send nothing more to this endpoint in this run. Its parked jobs are released: another endpoint may answer."""
        self.stopped_reason = self.stopped_reason or reason
        for cause, _ in self.parked.undecided():
            self.parked.release(cause, at_fault=False)

    def asks_for_long_wait(self, error: RequestError) -> bool:
        """Whether the error asks to wait for longer than a run does."""
        return self._policy.asks_for_long_wait(error)

    def leave_parked(self, cause: Cause) -> None:
        """No other job is left whose success could show that these are at fault: they get no row in this run."""
        self._closed[cause] = description(self.parked.of_cause(cause))
        self.parked.release(cause, at_fault=False)

    def _verdict(self, error: RequestError, attempt: FailedAttempt, history: AttemptHistory) -> Verdict:
        if self.outages.is_too_long(attempt.now):
            return StopRun(reason=f"the provider has been down for {self.outages.max_outage_s / 3600:.3g} h: {error}")
        if (reason := self._unusable(error, attempt)) is not None:
            return StopRun(reason=reason)
        if isinstance(error, AccessDenied) and error.scope == "model":
            self._closed.setdefault(Cause(CauseKind.PAYMENT, attempt.job.model), refused(error, attempt))
            return LeaveJob()
        if (cause := self._cause(error, attempt, history)) is not None:
            return self._park(cause, error, attempt, history)
        return self._decide(error, attempt, history)

    def _decide(self, error: RequestError, attempt: FailedAttempt, history: AttemptHistory) -> Verdict:
        """What follows for a job that is at fault itself, or for an ordinary failure."""
        began_at = history.first_throttled_at
        verdict = self._policy.decide(
            error,
            history,
            counted_failures=self._counted_failures(error, history, attempt.now),
            now=attempt.local_time,
            alone_for_s=attempt.now - began_at if attempt.is_singled_out and began_at is not None else None,
        )
        # A job has no wait of its own while the endpoint is down: the probes decide when the next request is sent.
        return replace(verdict, delay_s=0.0) if isinstance(verdict, Retry) and self.is_down else verdict

    def _unusable(self, error: RequestError, attempt: FailedAttempt) -> str | None:
        """Return why this error means that no request to this endpoint can succeed; None if one may."""
        match error:
            case AccessDenied(scope=scope) if scope == "endpoint" or (not scope and error.status not in (402, 403)):
                return refused(error, attempt)
            case Redirected() | EndpointUnusable():
                return str(error)
            case AddressError() if not self.has_succeeded:
                return str(error)
            case ConnectError() if self._is_only and self.is_unreachable:
                return never_reached(error)
            case BadRequest() if not self.has_succeeded and cause_of(error, attempt.job) is None:
                return self._too_many_rejections(error)
        return None

    def _too_many_rejections(self, error: BadRequest) -> str | None:
        kind = f"{error.status} {error.error_code or ''}"
        self._rejections[kind] = self._rejections.get(kind, 0) + 1
        if self._rejections[kind] < MAX_REJECTIONS:
            return None
        return f"the first {MAX_REJECTIONS} requests were all rejected: {error}"

    # ------------------------------------------------------------ parked jobs

    def _cause(self, error: RequestError, attempt: FailedAttempt, history: AttemptHistory) -> Cause | None:
        """What the job met, if others must show whether it is at fault. An outage explains broken streams."""
        if self._policy.asks_for_long_wait(error):
            return Cause(CauseKind.LONG_WAIT, attempt.limit_group)
        cause = cause_of(error, attempt.job)
        if cause is None or cause.kind is not CauseKind.NOT_UNDERSTOOD:
            return cause
        return None if self.is_down or history.is_at_fault else cause

    def _park(self, cause: Cause, error: RequestError, attempt: FailedAttempt, history: AttemptHistory) -> Verdict:
        if cause in self._closed:
            return LeaveJob()
        at_fault = self._decide(error, attempt, history)
        assert isinstance(at_fault, Retry | FailJob)
        # Requests that are sent together may be counted in any order: only what is sent after the refusal shows more.
        sent_at = attempt.now if cause.kind is CauseKind.LONG_WAIT else attempt.sent_at
        parked = ParkedJob(job=attempt.job, error=error, sent_at=sent_at, at_fault=at_fault, cause=cause)
        is_held = self.parked.add(parked)
        if self.parked.is_decided(cause):
            reason = description(self.parked.of_cause(cause) or [parked])
            if cause.concerns is None:
                return StopRun(reason=reason, is_parked=True)
            self._closed[cause] = reason
            self.parked.release(cause, at_fault=False)
            return LeaveJob()
        if self.parked.is_endpoint_affected(cause.kind):
            return StopRun(reason=description(self.parked.of_kind(cause.kind) or [parked]), is_parked=True)
        if not is_held:
            return Defer(failure=Failure(code=error.code, message=str(error), permanent=False))
        return Park(at_fault=at_fault, is_at_fault=parked.is_at_fault)

    # ------------------------------------------------------------ is the endpoint down?

    def emit_from_limiter(self, event: RunEvent) -> None:
        """Emit an event of the endpoint's rate limiter. While the endpoint is down, the bottleneck stays "outage":
        the limiter's queue is then empty, as if there were no jobs."""
        if isinstance(event, BottleneckChanged):
            self._limiter_bottleneck = event.bottleneck
            if self.is_down:
                return
        self._emit(event)

    def _counted_failures(self, error: RequestError, history: AttemptHistory, now: float) -> int:
        """How many failures count against the job, this one included: those that no outage explains."""
        earlier = sum(not explains_failure_at(at) for at, explains_failure_at in history.failures)
        return earlier + (counts_against_job(error) and not self.outages.explains_failure_at(now))

    def _watch_for_outage(self, error: RequestError, attempt: FailedAttempt) -> None:
        if not self._indicates_outage(error):
            if self.outages.on_answer(attempt.sent_at):
                self._emit_recovery(attempt.now)
            return
        position, had_first_token = attempt.job.position, attempt.had_first_token
        unresolved_since = next(iter(self._unresolved_since.values()), inf)
        if self.outages.on_failure(
            error, position, attempt.now, had_first_token=had_first_token, unresolved_since=unresolved_since
        ):
            self._emit(BottleneckChanged(at=attempt.now, bottleneck="outage"))
            self._emit(OutageStarted(at=attempt.now, endpoint=self._endpoint, message=str(error)))

    def _indicates_outage(self, error: RequestError) -> bool:
        """A response that the server ended itself is none before the first success: it may always answer so."""
        is_own_end = isinstance(error, StreamTruncated) and error.ended_by_server
        return indicates_outage(error) and not (is_own_end and not self.has_succeeded)

    def _emit_recovery(self, now: float) -> None:
        self._on_available()
        self._emit(BottleneckChanged(at=now, bottleneck=self._limiter_bottleneck))
        self._emit(OutageEnded(at=now, endpoint=self._endpoint))
