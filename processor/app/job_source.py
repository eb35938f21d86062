"""Where the jobs of a run come from, in the order that the plan asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from processor.app.plan import Plan
from processor.core.errors import ConfigError
from processor.input.job_file import InvalidLine
from processor.input.job_files import JobFiles
from processor.input.job_formats import ParsedJob
from processor.output.sink import Sink
from processor.scheduler import RunOptions
from processor.tokens.counter import TokenCounter


def ordered_jobs(
    plan: Plan, job_files: JobFiles, sink: Sink, options: RunOptions
) -> AsyncGenerator[ParsedJob | InvalidLine, None]:
    """The jobs by their size. Raises ConfigError where they can be read only once, or only in the order of the file."""
    from processor.scheduler.job_order import OrderedJobs  # most runs keep the order of the file

    if not job_files.can_be_read_again:
        raise ConfigError(f"--order {plan.order} reads the jobs twice: save those from stdin to a file")
    if converted := next((file.path for file in job_files.files if file.is_converted), None):
        raise ConfigError(f"--order {plan.order} needs files of lines, and {converted} is none: convert it first")
    counter = TokenCounter(plan.settings.encoding, asyncio.to_thread)
    longest_first = plan.order == "longest"
    return aiter(OrderedJobs(job_files.files, sink.job_index, options, counter, longest_first=longest_first))
