"""What a job met that may be its own fault or that of the run: parked jobs are judged together by it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from processor.core.errors import (
    AccessDenied,
    BadRequest,
    NotFound,
    ProtocolError,
    ReplyTooLarge,
    RequestError,
    StreamTruncated,
)
from processor.core.models import Job


class CauseKind(Enum):
    PAYMENT = "402"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    NOT_UNDERSTOOD = "not understood"
    LONG_WAIT = "long wait"


class Cause(NamedTuple):
    """What jobs met that are parked together."""

    kind: CauseKind
    concerns: str | None
    """The model, or the limit group that must wait; None for the whole endpoint."""


def cause_of(error: RequestError, job: Job) -> Cause | None:
    """What the job met, if that may concern it alone or all; None for any other error."""
    match error:
        case AccessDenied(status=402, scope=None):
            return Cause(CauseKind.PAYMENT, job.model)
        case AccessDenied(status=403, scope=None):
            return Cause(CauseKind.FORBIDDEN, job.model)
        case NotFound() | BadRequest(status=404):
            return Cause(CauseKind.NOT_FOUND, job.model)
        case ReplyTooLarge():
            return None
        case ProtocolError() | StreamTruncated(ended_by_server=True):
            return Cause(CauseKind.NOT_UNDERSTOOD, None)
    return None
