"""The events of an attempt: that it started, and what it led to."""

from __future__ import annotations

from processor.core.errors import RequestError, StatusError
from processor.core.events import AttemptFinished, AttemptOutcome, AttemptStarted
from processor.core.fast_dataclass import constructor_of
from processor.core.models import Reply
from processor.core.money import usd
from processor.endpoints.endpoint import EndpointPermit
from processor.retry.policy import Defer, FailJob, LeaveJob, Park, Retry, Verdict
from processor.scheduler.attempt import Attempt
from processor.scheduler.job_state import JobState

_new_started, _new_finished = constructor_of(AttemptStarted), constructor_of(AttemptFinished)


def started_event(state: JobState, permit: EndpointPermit) -> AttemptStarted:
    job, cost = state.job, permit.cost
    return _new_started(
        at=state.attempt_started_at,
        custom_id=job.custom_id,
        line=job.line,
        model=job.model,
        endpoint=permit.endpoint.name,
        limit_group=permit.limit_group,
        attempt=state.attempts + 1,
        tokens=cost.tokens or cost.input_tokens + cost.output_tokens,
        waited_s=permit.granted_at - state.enqueued_at,
    )


def replied_event(
    state: JobState, permit: EndpointPermit, attempt: Attempt, reply: Reply, at: float
) -> AttemptFinished:
    return _finished_event(state, permit, at, outcome="success", status=attempt.status, request_id=reply.request_id)


def failed_event(
    state: JobState,
    permit: EndpointPermit,
    attempt: Attempt,
    error: RequestError,
    verdict: Verdict,
    at: float,
    unconfirmed_pico: int | None,
) -> AttemptFinished:
    return _finished_event(
        state,
        permit,
        at,
        outcome=_outcome(verdict),
        status=error.status if isinstance(error, StatusError) else attempt.status,
        request_id=error.request_id,
        code=error.code,
        message=str(error),
        retry_delay_s=verdict.delay_s if isinstance(verdict, Retry) else None,
        unconfirmed_pico=unconfirmed_pico,
    )


def interrupted_event(
    state: JobState, permit: EndpointPermit, attempt: Attempt, at: float, unconfirmed_pico: int | None
) -> AttemptFinished:
    return _finished_event(
        state,
        permit,
        at,
        outcome="stop",
        status=attempt.status,
        code="interrupted",
        message="interrupted: the run was stopped",
        unconfirmed_pico=unconfirmed_pico,
    )


def _finished_event(
    state: JobState,
    permit: EndpointPermit,
    at: float,
    *,
    outcome: AttemptOutcome,
    status: int | None,
    request_id: str | None = None,
    code: str | None = None,
    message: str | None = None,
    retry_delay_s: float | None = None,
    unconfirmed_pico: int | None = None,
) -> AttemptFinished:
    return _new_finished(
        at=at,
        custom_id=state.job.custom_id,
        line=state.job.line,
        model=state.job.model,
        endpoint=permit.endpoint.name,
        limit_group=permit.limit_group,
        attempt=state.attempts,
        status=status,
        request_id=request_id,
        code=code,
        message=message,
        outcome=outcome,
        retry_delay_s=retry_delay_s,
        unconfirmed_cost_usd=None if unconfirmed_pico is None else usd(unconfirmed_pico),
    )


def _outcome(verdict: Verdict) -> AttemptOutcome:
    if isinstance(verdict, Retry):
        return "replace" if verdict.is_replacement else "retry"
    if isinstance(verdict, Park | Defer | LeaveJob):
        return "park"
    return "fail" if isinstance(verdict, FailJob) else "stop"
