"""A reply or a failure → the Result that becomes a row. Pure."""

from __future__ import annotations

from processor.core.errors import StatusError
from processor.core.models import Failure, Job, Reply, Result, Timing, Usage
from processor.input.job_file import InvalidLine
from processor.tokens.rules import TokenCount


def replied(
    job: Job,
    reply: Reply,
    prompt: TokenCount,
    completion: TokenCount,
    *,
    reported: Usage | None,
    attempts: int,
    timing: Timing | None,
    simulated: bool,
) -> Result:
    return Result(
        fingerprint=job.fingerprint,
        custom_id=job.custom_id,
        line=job.line,
        reply=reply,
        usage=Usage(prompt_tokens=prompt.tokens, completion_tokens=completion.tokens),
        reported=reported,
        usage_estimated=tuple(dict.fromkeys((*prompt.estimated, *completion.estimated))),
        attempts=attempts,
        timing=timing,
        simulated=simulated,
        metadata=job.metadata,
        has_metadata=job.has_metadata,
    )


def failed(
    job: Job, failure: Failure, error: Exception, *, attempts: int, timing: Timing | None, simulated: bool
) -> Result:
    return Result(
        fingerprint=job.fingerprint,
        custom_id=job.custom_id,
        line=job.line,
        reply=_refusal(error),
        failure=failure,
        attempts=attempts,
        timing=timing,
        simulated=simulated,
        metadata=job.metadata,
        has_metadata=job.has_metadata,
    )


def no_job(bad: InvalidLine, source: str, *, simulated: bool) -> Result:
    return Result(
        fingerprint=bad.fingerprint,
        custom_id=bad.custom_id,
        line=bad.line,
        failure=Failure(code=bad.code, message=f"{source}, line {bad.line}: {bad.message}", permanent=True),
        simulated=simulated,
    )


def _refusal(error: Exception) -> Reply | None:
    """The response that refused the job, where there was one and it was JSON."""
    if not isinstance(error, StatusError) or not isinstance(error.body, dict):
        return None
    return Reply(status_code=error.status, request_id=error.request_id, body=error.body)
