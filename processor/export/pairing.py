"""Brings the rows of an output together with the jobs of the job files as they are now.

A row belongs to the job with its id. Where no job has it, it belongs to a job without a row that asks for the same: a
job whose id was changed. So rows survive edits of the job file, and lines that were added or moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from processor.export.row_index import Place, RowIndex
from processor.input.job_file import InvalidLine
from processor.input.job_formats import ParsedJob
from processor.output.job_index import JobIndex, JobStatus

ReadJobs = Callable[[], Iterator[ParsedJob | InvalidLine]]
"""Reads the job files from their beginning."""


class Pair(NamedTuple):
    """A row and its job. One of them may be missing."""

    place: Place | None
    job: ParsedJob | None


def pair(index: RowIndex, read_jobs: ReadJobs) -> Iterator[Pair]:
    """Yield each job with its row, in the order of the job files, and then the rows of which there is no job.

    Reads the job files twice. Raises OSError, ConfigError.
    """
    jobs = rows = 0
    for custom_id, _ in _named(read_jobs):
        jobs += 1
        rows += index.take(custom_id) is not None
    has_other_rows = rows < len(index.places)
    by_request = _by_request(index) if has_other_rows and rows < jobs else {}
    joined: set[Place] = set()
    for custom_id, job in _named(read_jobs):
        place = index.take(custom_id)
        if place is None and (place := by_request.pop(job.fingerprint, None)) is not None:
            joined.add(place)
        yield Pair(place, job)
    if has_other_rows:
        yield from (Pair(place, None) for place, _ in index.untaken() if place not in joined)


def _by_request(index: RowIndex) -> dict[str, Place]:
    """The rows of which no job has the id, by their fingerprints."""
    return {fingerprint: place for place, row in index.untaken() if isinstance(fingerprint := row.get("id"), str)}


def _named(read_jobs: ReadJobs) -> Iterator[tuple[str, ParsedJob]]:
    """Yield each job with its id, as a run would name it. Of jobs with one id only the first is a job."""
    names = JobIndex()
    for job in read_jobs():
        if isinstance(job, ParsedJob):
            custom_id = names.assign_id(job.fingerprint) if job.custom_id is None else job.custom_id
            if names.classify(custom_id, job.fingerprint) is not JobStatus.DUPLICATE:
                yield custom_id, job
