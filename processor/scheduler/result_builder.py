"""Builds the Result that becomes a job's row, from a reply, a failure or an invalid line. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from processor.core.errors import StatusError
from processor.core.fast_dataclass import constructor_of
from processor.core.models import Failure, Job, Reply, Result, Timing, Usage
from processor.input.fingerprints import raw_fingerprint
from processor.input.found_fields import FoundFields
from processor.input.job_file import InvalidLine
from processor.input.job_formats import ParsedJob
from processor.protocols import Protocol

_new_result = constructor_of(Result)


def result_of_reply(
    job: Job,
    protocol: Protocol,
    reply: Reply,
    usage: Usage,
    reported: Usage | None,
    *,
    usage_estimated: Sequence[str],
    attempts: int,
    timing: Timing | None,
    endpoint: str,
    streamed: bool | None,
    simulated: bool,
    cost_usd: float | None = None,
    unconfirmed_cost_usd: float | None = None,
    served_by: str | None = None,
) -> Result:
    """``usage`` is computed; ``usage_estimated`` holds why it is not exact. ``reported`` is the server's own count.
    ``endpoint`` is the address that answered."""
    if reported is None and (fields := protocol.usage_json(usage)) is not None:
        reply = replace(reply, body={**reply.body, "usage": fields})
    ending = protocol.ending(reply.body, job.body)
    return _new_result(
        fingerprint=job.fingerprint,
        custom_id=job.custom_id,
        line=job.line,
        reply=reply,
        endpoint=endpoint,
        asked_model=job.model,
        streamed=streamed,
        usage=usage,
        reported=reported,
        usage_estimated=tuple(dict.fromkeys(usage_estimated)) if usage_estimated else (),
        finish_reasons=ending.finish_reasons,
        is_cut_short=ending.is_cut_short,
        is_unconfirmed=ending.is_unconfirmed,
        attempts=attempts,
        timing=timing,
        cost_usd=cost_usd,
        unconfirmed_cost_usd=unconfirmed_cost_usd,
        served_by=served_by,
        simulated=simulated,
        altered=job.altered,
        metadata=job.metadata,
        has_metadata=job.has_metadata,
        source=job.source,
    )


def result_of_failure(
    job: Job,
    failure: Failure,
    error: Exception,
    *,
    attempts: int,
    timing: Timing | None,
    endpoint: str | None,
    streamed: bool | None,
    simulated: bool,
    unconfirmed_cost_usd: float | None = None,
    served_by: str | None = None,
) -> Result:
    """``endpoint`` is the address that the last request was sent to; None where none was."""
    return Result(
        fingerprint=job.fingerprint,
        custom_id=job.custom_id,
        line=job.line,
        reply=_error_response(error),
        failure=failure,
        attempts=attempts,
        timing=timing,
        endpoint=endpoint,
        asked_model=None if endpoint is None else job.model,
        streamed=streamed,
        unconfirmed_cost_usd=unconfirmed_cost_usd,
        served_by=served_by,
        simulated=simulated,
        altered=job.altered,
        metadata=job.metadata,
        has_metadata=job.has_metadata,
        source=job.source,
    )


def result_of_invalid_line(line: InvalidLine, source_name: str | None, *, simulated: bool) -> Result:
    """``source_name``: of the job file; None where the line is none of a file."""
    name = source_name if line.source is None else line.source.name
    place = "" if name is None else f"{name}, line {line.line}: "
    return Result(
        fingerprint=line.fingerprint,
        custom_id=line.found.custom_id,
        line=line.line,
        failure=Failure(code=line.code, message=f"{place}{line.message}", permanent=True),
        simulated=simulated,
        altered=line.found.altered,
        metadata=line.found.metadata,
        has_metadata=line.found.has_metadata,
        source=line.source,
    )


def duplicate_line(parsed: ParsedJob, custom_id: str) -> InvalidLine:
    """What becomes of a job with the id of an earlier line."""
    return InvalidLine(
        line=parsed.line,
        fingerprint=raw_fingerprint(parsed.raw),
        code="duplicate_custom_id",
        message=f"custom_id {custom_id!r} is taken by an earlier line",
        found=FoundFields(
            custom_id=custom_id, metadata=parsed.metadata, has_metadata=parsed.has_metadata, altered=parsed.altered
        ),
        source=parsed.source,
    )


def _error_response(error: Exception) -> Reply | None:
    """The error response to be kept in the row; None if there was none, or it was not a JSON object."""
    if not isinstance(error, StatusError) or not isinstance(error.body, dict):
        return None
    return Reply(status_code=error.status, request_id=error.request_id, body=error.body)
