"""Why jobs are not answered, in one sentence for the user: the words of the provider, and the names of the jobs."""

from __future__ import annotations

from collections.abc import Collection

from processor.core.errors import AccessDenied, ModelNotFound
from processor.core.models import Job
from processor.core.text import one_line, setting_name
from processor.health.causes import CauseKind
from processor.health.failed_attempt import FailedAttempt
from processor.health.parked_jobs import ParkedJob
from processor.retry.policy import FailJob, come_back_at

MAX_NAMES_SHOWN = 3
MAX_NAME_CHARS = 60
MAX_WORDS_CHARS = 200


def description(parked: list[ParkedJob]) -> str:
    """What these jobs of one kind met, in the words of the provider."""
    first = parked[0]
    words = one_line(str(first.error), MAX_WORDS_CHARS)
    names = _names([one.job for one in parked])
    match first.cause.kind:
        case CauseKind.NOT_UNDERSTOOD:
            return f"the server cannot be understood: {words} {names}"
        case CauseKind.NOT_FOUND:
            models = dict.fromkeys(one.job.model for one in parked if isinstance(one.error, ModelNotFound))
            if models:
                return (
                    f"the provider does not know the model{'s' * (len(models) > 1)} {_listed(models)}: {words} {names}"
                )
            return f"there is nothing at {first.job.path}: {words} {names}; is {setting_name('base_url')} right?"
        case CauseKind.LONG_WAIT if isinstance(first.at_fault, FailJob):
            return f"{first.at_fault.failure.message} {names}"
    return f"the provider refused: {words} {names}"


def _names(jobs: list[Job]) -> str:
    names = _listed([one_line(job.custom_id, MAX_NAME_CHARS) for job in jobs])
    return f"(job {names})" if len(jobs) == 1 else f"({len(jobs)} jobs: {names})"


def _listed(names: Collection[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(list(names)[:MAX_NAMES_SHOWN]) + more


def refused(error: AccessDenied, attempt: FailedAttempt) -> str:
    """Why the provider answers nothing more, and when it will again where it says so."""
    back = f" (until {come_back_at(attempt.local_time, error.retry_after_s)})" if error.retry_after_s else ""
    return f"the provider refused: {error}{back}"
