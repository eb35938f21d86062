"""Names the jobs of a session, and decides for each: send it, answer it from the journal, or give it a failed row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from processor.core.events import SkipReason
from processor.core.job_keys import job_key
from processor.core.models import JSON, Job
from processor.input.job_file import InvalidLine
from processor.input.job_formats import ParsedJob
from processor.output.job_index import JobIndex, JobStatus
from processor.output.rows_of_others import RowsOfOthers
from processor.output.written_rows import WrittenRows
from processor.scheduler import RunOptions
from processor.scheduler.result_builder import duplicate_line
from processor.scheduler.selection import classify, skip_reason
from processor.session.answers import OpenJob, OpenJobs


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRow:
    """The job has its row already."""

    row: JSON
    custom_id: str
    reason: SkipReason


Selected = Job | InvalidLine | WrittenRow | OpenJob
"""A job to be sent; an object that is none, or has the id of another job; a row; or the same job, which is open."""


class JobSelection(Protocol):
    """Decides what becomes of a job."""

    def select(self, parsed: ParsedJob) -> Selected:
        """To be called once for each job, in their order. Raises OutputError."""
        ...


class EveryJob:
    """A ``JobSelection`` without a journal: every job is sent, and an id is only a name.

    Equal jobs without ids are numbered. Only that is remembered of a job.
    """

    def __init__(self, index: JobIndex) -> None:
        self._index = index

    def select(self, parsed: ParsedJob) -> Job:
        """See ``JobSelection``."""
        if parsed.custom_id is not None:
            return parsed.with_id(parsed.custom_id)
        custom_id = self._index.assign_id(parsed.fingerprint)
        self._index.classify(custom_id, parsed.fingerprint, names_model=parsed.names_model)
        return parsed.with_id(custom_id)


class UnwrittenJobs:
    """A ``JobSelection`` with a journal: a job that has its row there is answered from it.

    A job that is handed over once more in the same session is the same job, if it asks for the same. It is sent again
    only where it has no row, or a failed row that a later run would try again.
    """

    def __init__(
        self,
        index: JobIndex,
        written: WrittenRows,
        open_jobs: OpenJobs,
        options: RunOptions,
        others: RowsOfOthers | None = None,
    ) -> None:
        """``others``: the rows of sessions that share the folder of the journal."""
        self._others = others
        self._index = index
        self._written = written
        self._open = open_jobs
        self._options = options

    def select(self, parsed: ParsedJob) -> Selected:
        """See ``JobSelection``."""
        custom_id, status = classify(parsed, self._index, self._options)
        if status is JobStatus.DUPLICATE:
            if (opened := self._open.with_id(custom_id)) is not None:
                return opened if opened.fingerprint == parsed.fingerprint else duplicate_line(parsed, custom_id)
            self._index.forget_job(custom_id)
            _, status = classify(replace(parsed, custom_id=custom_id), self._index, self._options)
            if status is JobStatus.CHANGED:
                return duplicate_line(parsed, custom_id)
        reason = skip_reason(status, self._options)
        if reason is None:
            return self._of_others(parsed, custom_id) or parsed.with_id(custom_id)
        return WrittenRow(row=self._written.find(custom_id), custom_id=custom_id, reason=reason)

    def _of_others(self, parsed: ParsedJob, custom_id: str) -> WrittenRow | None:
        """Return the row that another session has written; None where the job is to be sent all the same."""
        if self._others is None or not self._others.index.has_row(job_key(custom_id)):
            return None
        _, status = classify(replace(parsed, custom_id=custom_id), self._others.index, self._options)
        self._others.index.forget_job(custom_id)
        reason = skip_reason(status, self._options)
        row = None if reason is None else self._others.find(custom_id)
        return None if reason is None or row is None else WrittenRow(row=row, custom_id=custom_id, reason=reason)
