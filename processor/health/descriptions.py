"""Why jobs are not answered, in one sentence for the user: the words of the provider, and the names of the jobs."""

from __future__ import annotations

from processor.core.errors import AccessDenied, ModelNotFound, StatusError
from processor.core.models import Job
from processor.core.text import one_line
from processor.health.causes import CauseKind
from processor.health.failed_attempt import FailedAttempt
from processor.health.parked_jobs import ParkedJob
from processor.retry.policy import FailJob, come_back_at

MAX_NAMES_SHOWN = 3
MAX_NAME_CHARS = 60


def names_of(jobs: list[Job]) -> str:
    """The names of a few jobs, and how many more there are."""
    names = [one_line(job.custom_id, MAX_NAME_CHARS) for job in jobs[:MAX_NAMES_SHOWN]]
    more = f" and {len(jobs) - MAX_NAMES_SHOWN} more" if len(jobs) > MAX_NAMES_SHOWN else ""
    return ", ".join(names) + more


def description(parked: list[ParkedJob]) -> str:
    """What these jobs of one kind met, in the words of the provider, for the user."""
    first = parked[0]
    names = names_of([one.job for one in parked])
    count = len(parked)
    who = f"job {names}" if count == 1 else f"{count} jobs ({names})"
    match first.cause.kind:
        case CauseKind.NOT_UNDERSTOOD:
            return f"the server's responses to {who} cannot be understood: {first.error}"
        case CauseKind.NOT_FOUND:
            return _not_found(parked, who)
        case CauseKind.LONG_WAIT:
            return f"{first.at_fault.failure.message if isinstance(first.at_fault, FailJob) else first.error} ({who})"
    status = first.error.status if isinstance(first.error, StatusError) else first.cause.kind.value
    return f"the provider refused {who} with HTTP {status}: {first.error}"


def _not_found(parked: list[ParkedJob], who: str) -> str:
    models = dict.fromkeys(one.job.model for one in parked if isinstance(one.error, ModelNotFound))
    error = parked[0].error
    if models:
        names = ", ".join(list(models)[:MAX_NAMES_SHOWN])
        more = f" and {len(models) - MAX_NAMES_SHOWN} more" if len(models) > MAX_NAMES_SHOWN else ""
        return f"the provider does not know the model{'s' if len(models) > 1 else ''} {names}{more} of {who}: {error}"
    return f"there is nothing at {parked[0].job.path} for {who}: {error}; is --base-url right?"


def refused(error: AccessDenied, attempt: FailedAttempt) -> str:
    """Why the provider answers nothing more, and when it will again where it says so."""
    back = f" (until {come_back_at(attempt.local_time, error.retry_after_s)})" if error.retry_after_s else ""
    return f"the provider refused: {error}{back}"
