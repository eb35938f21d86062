"""Judges what a provider says about one job of a batch: a reply, a failed row, or another submission. Pure."""

from __future__ import annotations

from processor.batch.provider_batches import BatchError, ResultLine
from processor.core import json_bytes
from processor.core.errors import AccessDenied, BadRequest, NotFound, RequestError, ServerError, StatusError, Throttled
from processor.core.fast_dataclass import dataclass
from processor.core.models import Failure, Job, Reply
from processor.protocols import error_from_response, protocol_for

EXPIRED = "batch_expired"
NO_RESULT = "batch_no_result"
CANCELLED = "batch_cancelled"
FAILED = "batch_failed"
NOT_IN_BATCH = "not_in_batch"
ENQUEUED_LIMIT = "token_limit_exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The job has its reply."""

    reply: Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The job gets a failed row. ``error``: the refusing response, where there was one."""

    failure: Failure
    error: RequestError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitAgain:
    """The job is submitted again; a failed row with ``failed``, where that has been done often enough."""

    failed: Failed
    is_counted: bool = True
    """False: it was not tried, e.g. because the batch was cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRefused:
    """The key or its account is at fault: the run ends, and a later one submits the job again."""

    error: AccessDenied


BatchVerdict = Answered | Failed | SubmitAgain | AccountRefused


def verdict_on(line: ResultLine, job: Job) -> BatchVerdict:
    """Judge a line of the results. ``job``: what is known of the job, without its prompt."""
    if line.status is None:
        return without_response(line.code or NO_RESULT, line.message)
    data = json_bytes.dumps(line.body)
    if line.status != 200:
        return _verdict_on_error(error_from_response(line.status, {}, data))
    try:
        body = protocol_for(job.path).parse_reply(data, job)
    except StatusError as error:
        return _verdict_on_error(error)
    except RequestError as error:
        return _again(error)
    return Answered(reply=Reply(status_code=200, request_id=line.request_id, body=body))


def without_response(code: str, message: str) -> SubmitAgain:
    """The job was not answered: it expired, was cancelled, or nothing is known of it."""
    code = code if code in (EXPIRED, CANCELLED, FAILED) else NO_RESULT
    message = message or "the provider has returned nothing for this job"
    return SubmitAgain(failed=Failed(failure=Failure(code=code, message=message)), is_counted=code != CANCELLED)


def verdict_on_batch_error(error: BatchError) -> AccountRefused | Failed | SubmitAgain:
    """Judge why a batch failed as a whole: for the job of the line that the error names, else for all its jobs."""
    fields = {"message": error.message or error.code, "type": error.code, "code": error.code}
    refused = error_from_response(400, {}, json_bytes.dumps({"error": fields}))
    if isinstance(refused, AccessDenied):
        return AccountRefused(error=refused)
    if error.line is not None:
        return Failed(failure=Failure(code=refused.code, message=str(refused), permanent=True), error=refused)
    if error.code == ENQUEUED_LIMIT:
        return SubmitAgain(failed=Failed(failure=Failure(code="too_large", message=error.message)), is_counted=False)
    return SubmitAgain(failed=Failed(failure=Failure(code=FAILED, message=f"{error.code}: {error.message}")))


def _verdict_on_error(error: StatusError) -> BatchVerdict:
    if isinstance(error, AccessDenied):
        is_account = error.scope is not None or error.status == 402
        return AccountRefused(error=error) if is_account else Failed(failure=_failure(error), error=error)
    if isinstance(error, Throttled | ServerError) or not isinstance(error, BadRequest):
        return _again(error)
    permanent = not isinstance(error, NotFound)
    return Failed(failure=_failure(error, permanent=permanent), error=error)


def _again(error: RequestError) -> SubmitAgain:
    return SubmitAgain(failed=Failed(failure=_failure(error), error=error))


def _failure(error: RequestError, *, permanent: bool = False) -> Failure:
    return Failure(code=error.code, message=str(error), permanent=permanent)
