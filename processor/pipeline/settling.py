"""A reply or a failure → the Result that becomes a row. Pure."""

from __future__ import annotations

from typing import Any, TypeGuard

from processor.errors import StatusError
from processor.models import JSON, Failure, Job, Reply, Result, Timing, Usage
from processor.reading.source import BadLine
from processor.tokens.counting import Count


def reported_usage(body: JSON) -> Usage | None:
    """The usage that the server reported, where it makes sense."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if not _is_count(prompt) or not _is_count(completion):
        return None
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


def replied(
    job: Job,
    reply: Reply,
    prompt: Count,
    completion: Count,
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
        usage_source="reported" if reported else "computed",
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


def no_job(bad: BadLine, source: str, *, simulated: bool) -> Result:
    return Result(
        fingerprint=bad.fingerprint,
        custom_id=bad.custom_id,
        line=bad.line,
        failure=Failure(code=bad.code, message=f"{source}, line {bad.line}: {bad.message}", own_fault=True),
        simulated=simulated,
    )


def _refusal(error: Exception) -> Reply | None:
    """The response that refused the job, where there was one and it was JSON."""
    if not isinstance(error, StatusError) or not isinstance(error.body, dict):
        return None
    return Reply(status_code=error.status, request_id=error.request_id, body=error.body)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
