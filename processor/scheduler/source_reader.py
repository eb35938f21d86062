"""Reads what a run is to do, and decides for each line: start its job, skip it, or give it a failed row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing

from processor.core.events import JobSkipped
from processor.core.models import Job, SourceFile
from processor.input.done_job_skipper import SkippedJobs
from processor.input.job_file import InvalidLine
from processor.input.job_formats import ParsedJob
from processor.output.job_index import JobStatus
from processor.output.sink import END_OF_FILE
from processor.scheduler.dependencies import Dependencies, NoJobYet, RunOptions
from processor.scheduler.result_builder import duplicate_line, result_of_invalid_line
from processor.scheduler.row_writer import RowWriter
from processor.scheduler.selection import classify, skip_events, skip_reason


class SourceReader:
    """Reads the source of a run, once, and counts what it finds."""

    def __init__(self, deps: Dependencies, options: RunOptions, rows: RowWriter) -> None:
        self._deps = deps
        self._options = options
        self._rows = rows
        self.lines_read = 0
        self.lines_of_other_shards = 0
        self.jobs_read = 0
        self.failed_earlier = 0
        """Jobs whose permanent failure in an earlier run stands."""
        self.last_line = 0
        """The number of the last line that was read; END_OF_FILE after all of them."""

    async def read(
        self, start_job: Callable[[Job], Awaitable[None]], wait_for_jobs: Callable[[NoJobYet], Awaitable[None]]
    ) -> None:
        """Start each job that is to be sent, and give failed rows to lines that are none.

        ``wait_for_jobs`` returns when a source that had no job has one. Raises InputError and OutputError.
        """
        async with aclosing(self._deps.source) as source:
            async for items in source:
                for item in items:
                    if isinstance(item, NoJobYet):
                        await wait_for_jobs(item)
                        continue
                    if isinstance(item, SkippedJobs):
                        self._count_skipped(item)
                    else:
                        await self._handle_line(item, start_job)
                    if self.lines_read == self._options.limit:
                        return
        self.last_line = END_OF_FILE

    def _count_skipped(self, skipped: SkippedJobs) -> None:
        self.jobs_read += skipped.count
        self.failed_earlier += skipped.permanent_failures
        for event in skip_events(skipped):
            self._deps.emit(event)
        self._count_lines(skipped.count, skipped.last_line, skipped.source)

    async def _handle_line(
        self, item: ParsedJob | InvalidLine | Job, start_job: Callable[[Job], Awaitable[None]]
    ) -> None:
        self._count_lines(1, item.line, item.source)
        if self._options.shard is not None and self._is_of_other_shard(item):
            self.lines_of_other_shards += 1
            return
        self.jobs_read += not isinstance(item, InvalidLine)
        found = self._find_job(item) if isinstance(item, ParsedJob) else item
        if isinstance(found, InvalidLine):
            await self._fail_line(found)
        elif found is not None:
            await start_job(found)

    def _count_lines(self, lines: int, last_line: int, source: SourceFile | None) -> None:
        self.lines_read += lines
        # Lines of several files have no order that rows could be compared with, before all of them are read.
        if source is None:
            self.last_line = last_line

    def _is_of_other_shard(self, item: ParsedJob | InvalidLine | Job) -> bool:
        return not isinstance(item, Job) and not self._options.includes(item)

    def _find_job(self, parsed: ParsedJob) -> Job | InvalidLine | None:
        """Compare the job with the rows of earlier runs and with earlier lines. None if it is not to be sent."""
        custom_id, status = classify(parsed, self._deps.sink.job_index, self._options)
        if status is JobStatus.DUPLICATE:
            return duplicate_line(parsed, custom_id)
        reason = skip_reason(status, self._options)
        if reason is None:
            return parsed.with_id(custom_id)
        self.failed_earlier += reason == "failed_permanently"
        self._deps.emit(JobSkipped(reason=reason, custom_id=custom_id, line=parsed.line, model=parsed.model))
        return None

    async def _fail_line(self, line: InvalidLine) -> None:
        result = result_of_invalid_line(line, self._deps.source_name, simulated=self._options.simulated)
        await self._rows.write(result, None)
