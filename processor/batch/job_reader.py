"""Reads the job file and says which jobs are to be submitted, in a first pass and in later ones."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing

from processor.batch.dependencies import BatchDependencies, BatchOptions, Counts
from processor.batch.rows import BatchRows
from processor.core.events import JobSkipped
from processor.core.job_keys import job_key
from processor.core.models import Job
from processor.input.done_job_skipper import SkippedJobs
from processor.input.job_file import InvalidLine
from processor.input.job_files import JobItems, each_item
from processor.input.job_formats import ParsedJob
from processor.output.job_index import JobStatus
from processor.output.sink import END_OF_FILE
from processor.scheduler.result_builder import duplicate_line, result_of_invalid_line
from processor.scheduler.selection import classify, skip_events, skip_reason


class KeySet:
    """Keys of jobs, in 8 bytes each. Two jobs are taken for one with a probability of 1e-7 in a million."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._sorted = array("Q", sorted(array("Q", map(_number, keys))))

    def __contains__(self, key: bytes) -> bool:
        number = _number(key)
        at = bisect_left(self._sorted, number)
        return at < len(self._sorted) and self._sorted[at] == number


def _number(key: bytes) -> int:
    return int.from_bytes(key[:8])


class JobReader:
    """Reads the jobs that are to be submitted. Each pass reads the whole file."""

    def __init__(self, deps: BatchDependencies, options: BatchOptions, counts: Counts) -> None:
        self._deps = deps
        self._options = options
        self._counts = counts
        self._rows = BatchRows(deps, options, counts)
        self._passes = 0

    async def jobs(self, in_batches: KeySet) -> AsyncGenerator[Job, None]:
        """Yield the jobs to submit. ``in_batches``: those that are left alone. Raises InputError and OutputError."""
        self._passes += 1
        if self._passes > 1:
            self._deps.sink.job_index.forget_seen()
        self._counts.lines = 0
        lists: JobItems = self._deps.read_jobs() if self._passes == 1 else self._deps.read_again()
        async for item in self._items(lists):
            if isinstance(item, SkippedJobs):
                self._count_skipped(item)
            elif isinstance(item, InvalidLine):
                await self._fail_line(item)
            elif (job := await self._job_to_submit(item, in_batches)) is not None:
                yield job
        await self._rows.flush()

    async def _items(self, lists: JobItems) -> AsyncIterator[ParsedJob | InvalidLine | SkippedJobs]:
        counts = self._counts
        async with aclosing(lists):
            async for item in each_item(lists):
                counts.lines += item.count if isinstance(item, SkippedJobs) else 1
                counts.last_line = item.last_line if isinstance(item, SkippedJobs) else item.line
                if isinstance(item, SkippedJobs) or self._options.run.includes(item):
                    yield item
                if counts.lines == self._options.run.limit:
                    return
        counts.last_line = END_OF_FILE

    async def _job_to_submit(self, parsed: ParsedJob, in_batches: KeySet) -> Job | None:
        custom_id, status = classify(parsed, self._deps.sink.job_index, self._options.run)
        is_first = self._passes == 1
        if status is JobStatus.DUPLICATE:
            await self._fail_line(duplicate_line(parsed, custom_id))
            return None
        self._counts.jobs += is_first
        key = job_key(custom_id)
        if key in in_batches:
            return None
        if not is_first:
            return parsed.with_id(custom_id) if key in self._deps.log.again or status is JobStatus.NEW else None
        reason = skip_reason(status, self._options.run)
        if reason is None:
            return parsed.with_id(custom_id)
        self._counts.failed_earlier += reason == "failed_permanently"
        self._deps.emit(JobSkipped(reason=reason, custom_id=custom_id, line=parsed.line, model=parsed.model))
        return None

    def _count_skipped(self, skipped: SkippedJobs) -> None:
        """Only the first pass skips jobs unread."""
        self._counts.jobs += skipped.count
        self._counts.failed_earlier += skipped.permanent_failures
        for event in skip_events(skipped):
            self._deps.emit(event)

    async def _fail_line(self, line: InvalidLine) -> None:
        """Write its row in the first pass; later passes only note that it is still there."""
        result = result_of_invalid_line(line, self._deps.source_name, simulated=self._options.run.simulated)
        if self._passes == 1:
            await self._rows.write_line(result)
        else:
            await self._deps.sink.append(result)
