"""(error, history, standing) → again after n seconds | fail the job | doubt | stop. By the error's type alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from processor.core.errors import (
    AccessDenied,
    BadRequest,
    ConnectError,
    ConnectionLost,
    NotFound,
    OptionRefused,
    ProtocolError,
    ReplyTooLarge,
    RequestError,
    StatusError,
    Throttled,
)
from processor.core.models import Failure
from processor.retry.backoff import Backoff

REJECTIONS_THAT_STOP = 20
"""So many rejections of one kind and not one success: it is the run that is wrong, not the jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """``replaces``: at once and beside the count, the attempt never had its chance."""

    after_s: float
    replaces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FailJob:
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """The job has failed, if anything else succeeds; until then it may be the run that is wrong, and the job waits."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRun:
    """No request of this run can succeed, now: ``why`` is what a person should read."""

    why: str


Decision = Retry | FailJob | Park | StopRun


@dataclass(slots=True)
class AttemptHistory:
    """What a job has been through in this run."""

    failed_at: list[float] = field(default_factory=list)
    """When it failed by what may be its own doing: 5xx, cut, stalled, timed out, senseless."""
    held_up: int = 0
    """How often it was turned away by what is nobody's doing: 429s, failed connections, an outage."""
    replaced: bool = False
    """Its latest attempt took the place of one that never had its chance."""


@dataclass(slots=True)
class ProviderRecord:
    """What the run has seen of the provider so far."""

    succeeded: bool = False
    reached: bool = False
    """Something other than a failed connection came back."""
    rejections: dict[str, int] = field(default_factory=dict)

    def heard(self, error: RequestError) -> None:
        self.reached |= not isinstance(error, ConnectError)
        if isinstance(error, BadRequest) and not isinstance(error, NotFound):
            kind = rejection_kind(error)
            self.rejections[kind] = self.rejections.get(kind, 0) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient a run is. Defaults are those of ``config.toml``."""

    max_attempts: int = 6
    backoff: Backoff = field(default_factory=Backoff)
    max_wait_s: float = 3600.0

    def decide(
        self, error: RequestError, history: AttemptHistory, standing: ProviderRecord, *, now: datetime, own: int
    ) -> Decision:
        """``own``: the failures that count against the job, this one included. ``now``: local time."""
        match error:
            case OptionRefused():
                return Retry(after_s=0.0, replaces=True)
            case ConnectionLost(reused=True) if not history.replaced:
                return Retry(after_s=0.0, replaces=True)
            case AccessDenied(status=403) if standing.succeeded:
                return _failed(error, permanent=True)
            case AccessDenied():
                return StopRun(why=f"the provider refused: {error}")
            case BadRequest():
                return self._rejected(error, standing)
            case ReplyTooLarge():
                return _failed(error, permanent=True)
            case ConnectError() if not standing.succeeded and not standing.reached:
                return StopRun(why=f"{error}; is --base-url right, and the server up?")
            case Throttled() | ConnectError():
                return self._later(error, history.held_up, now)
        if own >= self.max_attempts:
            return _failed(error, tried=own)
        return self._later(error, own, now)

    def _later(self, error: RequestError, failures: int, now: datetime) -> Retry | StopRun:
        told_s = error.retry_after_s if isinstance(error, StatusError) else None
        if not told_s:  # a wait of 0 s asks for the same answer again
            return Retry(after_s=self.backoff.wait_s(failures))
        if told_s <= self.max_wait_s:
            return Retry(after_s=told_s)
        back = (now + timedelta(seconds=told_s)).strftime("%Y-%m-%d %H:%M")
        return StopRun(why=f"the provider asks to wait until {back}: {error}")

    def _rejected(self, error: BadRequest, standing: ProviderRecord) -> FailJob | Park | StopRun:
        if isinstance(error, NotFound) and not standing.succeeded:
            return Park(failure=_failure(error, permanent=True))
        if not standing.succeeded and standing.rejections.get(rejection_kind(error), 0) >= REJECTIONS_THAT_STOP:
            return StopRun(why=f"the first {REJECTIONS_THAT_STOP} requests were all rejected: {error}")
        return _failed(error, permanent=True)


def is_own_failure(error: RequestError) -> bool:
    """Whether ``max_attempts`` counts it, unless an outage explains it."""
    if isinstance(error, ProtocolError):
        return True
    return not isinstance(error, Throttled | BadRequest | AccessDenied | ConnectError | OptionRefused)


def rejection_kind(error: BadRequest) -> str:
    return f"{error.status} {error.error_code or ''}"


def _failed(error: RequestError, *, permanent: bool = False, tried: int = 0) -> FailJob:
    return FailJob(failure=_failure(error, permanent=permanent, tried=tried))


def _failure(error: RequestError, *, permanent: bool, tried: int = 0) -> Failure:
    times = f" (the last of {tried} failed attempts)" if tried > 1 else ""
    return Failure(code=error.code, message=f"{error}{times}", permanent=permanent)
