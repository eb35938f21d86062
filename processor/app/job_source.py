"""Opens the job files of a run, and reads their jobs in the order that the plan asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from processor.app.plan import Plan
from processor.config.endpoint_resolution import EndpointAccess, default_path
from processor.config.endpoint_settings import answered_models
from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.text import setting_name
from processor.input.job_file import InvalidLine
from processor.input.job_files import JobFiles, JobItems, is_in_shard
from processor.input.job_formats import JobDefaults, ParsedJob
from processor.input.tables import TABLE_SUFFIXES, table_suffix
from processor.input.template import Template
from processor.output.sink import Sink
from processor.protocols.request_limits import UNKNOWN_LIMITS
from processor.scheduler import RunOptions
from processor.tokens.counter import TokenCounter

MAX_FORECAST_BYTES = 16 << 20
"""Larger job files are not compared with the results before the first request: that takes about a second more for each
MAX_FORECAST_BYTES."""


def job_defaults(settings: Settings, accesses: Sequence[EndpointAccess]) -> JobDefaults:
    """What the settings add to jobs that name no API path or no model."""
    request_limits = {access.provider.request_limits for access in accesses}
    return JobDefaults(
        endpoint=default_path(settings, accesses),
        model=settings.model or (None if settings.local is None else Path(settings.local).stem),
        base_urls=tuple(access.target.base_url for access in accesses),
        # A job that one provider is known to refuse may be one for another.
        request_limits=UNKNOWN_LIMITS if len(request_limits) != 1 else request_limits.pop(),
        answered_models=answered_models(settings.endpoints) if accesses else None,
    )


def open_job_files(plan: Plan, accesses: Sequence[EndpointAccess]) -> JobFiles:
    template = None if plan.template is None else Template(plan.template)
    if template is not None and not any(map(table_suffix, plan.job_files)):
        raise ConfigError(
            f"{setting_name('template')} is for tables ({', '.join(TABLE_SUFFIXES)}), and {plan.jobs_name} is none"
        )
    defaults = job_defaults(plan.settings, accesses)
    return JobFiles(plan.job_files, defaults, max_line_bytes=plan.settings.max_line_bytes, template=template)


def planned_lines(plan: Plan, job_files: JobFiles) -> Iterator[ParsedJob | InvalidLine]:
    """Yield the lines of regular files that are within ``--limit`` and in the plan's shard. Blocks while it reads.

    Raises ConfigError.
    """
    lines = islice(job_files.parse_lines(), plan.limit)
    return (line for line in lines if is_in_shard(line, plan.shard))


def count_planned_lines(plan: Plan, job_files: JobFiles) -> int | None:
    """Return how many lines the run has; None where that is not known, or would take long. Raises ConfigError."""
    if plan.shard is not None:
        size = job_files.size
        known = size is not None and size <= MAX_FORECAST_BYTES
        return sum(1 for _ in planned_lines(plan, job_files)) if known else None
    lines = job_files.count_lines()
    return lines if lines is None or plan.limit is None else min(lines, plan.limit)


def unfinished_jobs(plan: Plan, job_files: JobFiles, sink: Sink) -> JobItems:
    """Read the job files, and skip finished jobs unread where that is faster.

    It is not with a shard: between its jobs stand those of others.
    """
    if plan.shard is not None:
        return aiter(job_files)
    if sink.recovered.replied:
        return job_files.unfinished(partial(sink.job_index.skip_done, permanent=not plan.retry_failed), plan.limit)
    return aiter(job_files)


def ordered_jobs(
    plan: Plan, job_files: JobFiles, sink: Sink, options: RunOptions
) -> AsyncGenerator[list[ParsedJob | InvalidLine], None]:
    """The jobs by their size. Raises ConfigError; see ``check_order``."""
    from processor.scheduler.job_order import OrderedJobs  # most runs keep the order of the file

    check_order(plan, job_files)
    counter = TokenCounter(plan.settings.encoding, asyncio.to_thread)
    longest_first = plan.order == "longest"
    return aiter(OrderedJobs(job_files.files, sink.job_index, options, counter, longest_first=longest_first))


def check_order(plan: Plan, job_files: JobFiles) -> None:
    """Raises ConfigError where jobs in another order can be read only once, or only in the order of the file."""
    if plan.order == "file":
        return
    if not job_files.can_be_read_again:
        raise ConfigError(f"{setting_name('order', plan.order)} reads the jobs twice: save those from stdin to a file")
    if converted := next((file.path for file in job_files.files if file.is_converted), None):
        raise ConfigError(
            f"{setting_name('order', plan.order)} needs files of lines, and {converted} is none: convert it first"
        )
