"""What follows from a failed attempt: the verdicts, and the policy that retries a job. Decides by the error's type.

Whether an error means that the whole run is misconfigured is decided before, in ``health.endpoint_health``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import field
from datetime import datetime, timedelta

from processor.core.errors import (
    AccessDenied,
    BadRequest,
    ConnectError,
    ConnectionLost,
    KeyRenewed,
    OptionRefused,
    ProtocolError,
    Redirected,
    ReplyTooLarge,
    RequestError,
    ServerError,
    StatusError,
    Throttled,
)
from processor.core.fast_dataclass import dataclass
from processor.core.models import Failure
from processor.core.process_errors import LocalModelRestarted, WorkerLost
from processor.retry.backoff import Backoff, RetrySchedule

MAX_WORKERS_LOST = 5
"""A job that was in flight in so many lost workers is given up: it may be what ends them."""

# ---------------------------------------------------------------- verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The job is sent again after a wait."""

    delay_s: float
    is_replacement: bool = False
    """The next attempt replaces one that the server did not process, and that counts in no limit of attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailJob:
    """The job gets a failed row."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """The error may concern one job or all: the job waits until the requests of other jobs show which."""

    at_fault: Retry | FailJob
    """What follows if the job is at fault."""
    is_at_fault: asyncio.Future[bool]
    """Set when that is known. False: the job is left, see ``LeaveJob``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer:
    """As ``Park``, while no more jobs can be held: the job is read again at the end of the job file."""

    failure: Failure
    """That of the failed row where the jobs can be read only once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveJob:
    """No job like this one is answered at present: it gets no row in this run, and the next run sends it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRun:
    """No request to this endpoint can succeed at present. ``reason`` is shown to the user."""

    reason: str
    is_parked: bool = False
    """The job may be at fault as well: the next run sends it last."""
    grace_s: float | None = None
    """How long requests in flight may continue; None: as the run says."""


Verdict = Retry | FailJob | Park | Defer | LeaveJob | StopRun
"""What follows from a failed attempt."""


# ---------------------------------------------------------------- the policy

ExplainsFailure = Callable[[float], bool]
"""Whether an outage explains a failure at this time."""


@dataclass(slots=True)
class AttemptHistory:
    """The failed attempts of one job in this run."""

    failures: list[tuple[float, ExplainsFailure]] = field(default_factory=list)
    """When the attempts failed for which ``counts_against_job`` holds, on the event loop's clock; and what knows
    whether an outage of the endpoint explains it."""
    uncounted_failures: int = 0
    """Attempts that were throttled, or failed because no connection could be made."""
    workers_lost: int = 0
    """Attempts that were in flight in a worker process that was lost."""
    first_throttled_at: float | None = None
    """When the first attempt was throttled."""
    is_at_fault: bool = False
    """Whether it is known that the job is at fault for a response that could not be understood."""
    last_was_replacement: bool = False
    """Whether the latest attempt replaced one: it is not replaced in its turn."""

    def record(
        self, verdict: Verdict, error: RequestError, at: float, explains_failure_at: ExplainsFailure = lambda at: False
    ) -> None:
        """Add the attempt that failed at this time with this verdict."""
        self.workers_lost += isinstance(error, WorkerLost)
        self.last_was_replacement = isinstance(verdict, Retry) and verdict.is_replacement
        if self.last_was_replacement:
            return
        if isinstance(error, Throttled) and self.first_throttled_at is None:
            self.first_throttled_at = at
        if counts_against_job(error):
            self.failures.append((at, explains_failure_at))
        else:
            self.uncounted_failures += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long a job is tried. Defaults are those of ``config.toml``."""

    max_attempts: int = 6
    backoff: Backoff = field(default_factory=Backoff)
    max_wait_s: float = 3600.0
    _schedule: RetrySchedule = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_schedule", RetrySchedule(self.max_attempts, self.backoff))

    def asks_for_long_wait(self, error: RequestError) -> bool:
        """Whether the server asks to wait for longer than a run does."""
        return isinstance(error, Throttled | ServerError) and (error.retry_after_s or 0.0) > self.max_wait_s

    def decide(
        self,
        error: RequestError,
        history: AttemptHistory,
        *,
        counted_failures: int,
        now: datetime,
        alone_for_s: float | None = None,
    ) -> Retry | FailJob:
        """Return what follows from an error of one job.

        ``history`` ends before this attempt. ``counted_failures``: the failures that count against the job, this one
        included. ``now``: local time, for the message that names the time to come back. ``alone_for_s``: how long this
        job has been throttled while others are answered; None where the limit concerns others as well.
        """
        if self.asks_for_long_wait(error):
            return FailJob(failure=_long_wait(error, now))
        match error:
            case OptionRefused() | KeyRenewed() | LocalModelRestarted():
                return Retry(delay_s=0.0, is_replacement=True)
            case WorkerLost():
                return self._after_lost_worker(error, history.workers_lost + 1)
            case ConnectionLost(reused=True) if not history.last_was_replacement:
                return Retry(delay_s=0.0, is_replacement=True)
            case BadRequest() | AccessDenied() | Redirected() | ReplyTooLarge():
                return FailJob(failure=permanent_failure(error))
            case Throttled() | ConnectError():
                retry = self._retry_later(error, history.uncounted_failures)
                waited_s = alone_for_s if isinstance(error, Throttled) else None
                if waited_s is not None and waited_s + retry.delay_s > self.max_wait_s:
                    return FailJob(failure=_throttled_alone(error, waited_s))
                return retry
        if self._schedule.is_exhausted(counted_failures):
            return FailJob(failure=_last_failure(error, counted_failures))
        return self._retry_later(error, counted_failures)

    def _after_lost_worker(self, error: WorkerLost, workers_lost: int) -> Retry | FailJob:
        if workers_lost < MAX_WORKERS_LOST:
            return Retry(delay_s=0.0, is_replacement=True)
        message = f"{workers_lost} workers were lost while they had sent this job: {error}"
        return FailJob(failure=Failure(code=error.code, message=message, permanent=False))

    def _retry_later(self, error: RequestError, failures: int) -> Retry:
        """Obey the server's wait where it names one; a wait of 0 s would only repeat the answer."""
        requested_s = error.retry_after_s if isinstance(error, StatusError) else None
        return Retry(delay_s=requested_s or self._schedule.wait_s(failures))


_UNCOUNTED = (
    *(Throttled, BadRequest, AccessDenied, Redirected, ConnectError),
    *(OptionRefused, KeyRenewed, LocalModelRestarted, WorkerLost),
)


def counts_against_job(error: RequestError) -> bool:
    """Whether ``max_attempts`` counts this failure, unless an outage explains it: 5xx, cut, stalled, timed out, ..."""
    if isinstance(error, ProtocolError):
        return True
    return not isinstance(error, _UNCOUNTED)


def permanent_failure(error: RequestError) -> Failure:
    """The failure of a job that would fail in the same way again: only ``--retry-failed`` sends it again."""
    return Failure(code=error.code, message=str(error), permanent=True)


def _long_wait(error: RequestError, now: datetime) -> Failure:
    """The failure of a job that alone must wait for so long: the next run sends it again."""
    wait_s = error.retry_after_s if isinstance(error, StatusError) else None
    message = f"the provider asks to wait until {come_back_at(now, wait_s or 0.0)}: {error}"
    return Failure(code=error.code, message=message, permanent=False)


def come_back_at(now: datetime, wait_s: float) -> str:
    """Local date and time after a wait."""
    return (now + timedelta(seconds=wait_s)).strftime("%Y-%m-%d %H:%M")


def _throttled_alone(error: RequestError, alone_for_s: float) -> Failure:
    message = f"throttled for {alone_for_s:.0f} s while other jobs were answered: {error}"
    return Failure(code=error.code, message=message, permanent=False)


def _last_failure(error: RequestError, failures: int) -> Failure:
    count = f" (the last of {failures} failed attempts)" if failures > 1 else ""
    return Failure(code=error.code, message=f"{error}{count}", permanent=False)
