"""Decides which jobs are sent, from what earlier runs left, and counts them before anything is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from processor.core.events import JobSkipped, SkipReason
from processor.core.fast_dataclass import dataclass
from processor.input.done_job_skipper import SkippedJobs
from processor.input.job_file import InvalidLine
from processor.input.job_formats import ParsedJob
from processor.output.job_index import NEW, JobIndex, JobStatus
from processor.protocols import RequestOptions, protocol_for
from processor.scheduler.dependencies import RunOptions

_ANSWERED_OTHERWISE: Mapping[JobStatus, SkipReason] = {
    JobStatus.CHANGED: "changed",
    JobStatus.OTHER_MODEL: "other_model",
    JobStatus.OTHER_ENDPOINT: "other_endpoint",
    JobStatus.OTHER_SCHEMA: "other_schema",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run will do with the lines of its job file."""

    to_send: int = 0
    done: int = 0
    """Jobs with a reply that is kept, also where the job was edited or would be asked elsewhere now."""
    failed_permanently: int = 0
    """Jobs with a failed row that stands."""
    not_jobs: int = 0
    """Lines that are no job, or have the id of an earlier line."""
    rows_without_job: int = 0
    """Replies and failed rows of jobs that are not among the lines."""
    has_known_jobs: bool = False
    """Whether any of the jobs has a row."""


def classify(parsed: ParsedJob, index: JobIndex, options: RunOptions) -> tuple[str, JobStatus]:
    """Return the id of the next job of the job file, and what earlier runs and lines say about it.

    Marks the job as seen: call it once for each job.
    """
    custom_id = parsed.custom_id if parsed.custom_id is not None else index.assign_id(parsed.fingerprint)
    status = index.classify(custom_id, parsed.fingerprint, names_model=parsed.names_model)
    if status is NEW:
        return custom_id, status
    if status is JobStatus.FAILED_PERMANENTLY and _is_asked_otherwise(parsed, custom_id, index, options):
        status = JobStatus.FAILED
    if status is JobStatus.OTHER_SCHEMA and not protocol_for(parsed.path).generates_text:
        status = JobStatus.DONE
    return custom_id, status


def _is_asked_otherwise(parsed: ParsedJob, custom_id: str, index: JobIndex, options: RunOptions) -> bool:
    """Whether the job failed for good as a stream and would now be asked for as a whole reply, or the reverse.

    The fingerprint does not tell: it stands for what is asked, and not for how.
    """
    was_streamed = index.failed_streamed(custom_id, parsed.fingerprint)
    if was_streamed is None:
        return False
    is_streamed = protocol_for(parsed.path).is_streamed(
        parsed.with_id(custom_id), RequestOptions(streamed=options.stream)
    )
    return is_streamed is not was_streamed


def skip_events(skipped: SkippedJobs) -> Iterator[JobSkipped]:
    """The events of jobs that were skipped unread."""
    if done := skipped.count - skipped.permanent_failures:
        yield JobSkipped(reason="done", count=done)
    if skipped.permanent_failures:
        yield JobSkipped(reason="failed_permanently", count=skipped.permanent_failures)


def skip_reason(status: JobStatus, options: RunOptions) -> SkipReason | None:
    """Return why nothing is sent for a job; None where it is sent, and for duplicates, which get a failed row."""
    if status is NEW:
        return None
    if status is JobStatus.DONE:
        return "done"
    if status is JobStatus.FAILED_PERMANENTLY and not options.retry_failed:
        return "failed_permanently"
    return None if options.resend_changed else _ANSWERED_OTHERWISE.get(status)


def forecast(lines: Iterable[ParsedJob | InvalidLine], index: JobIndex, options: RunOptions) -> Forecast:
    """Classify all lines, and forget again that they were seen."""
    reasons: Counter[SkipReason | None] = Counter()
    not_jobs = 0
    has_known_jobs = False
    for line in lines:
        status = JobStatus.DUPLICATE if isinstance(line, InvalidLine) else classify(line, index, options)[1]
        if status is JobStatus.DUPLICATE:
            not_jobs += 1
            continue
        has_known_jobs |= status is not NEW
        reasons[skip_reason(status, options)] += 1
    rows_without_job = index.count_rows_without_job()
    index.forget_seen()
    return Forecast(
        to_send=reasons.pop(None, 0),
        failed_permanently=reasons.pop("failed_permanently", 0),
        done=reasons.total(),
        not_jobs=not_jobs,
        rows_without_job=rows_without_job,
        has_known_jobs=has_known_jobs,
    )
