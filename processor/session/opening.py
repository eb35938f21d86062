"""Makes the objects of a session from its settings: those of a run, but for its source, its display and its files."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from processor.app import factory
from processor.app.accesses import resolved_accesses
from processor.app.budget import check_prices
from processor.app.job_source import job_defaults
from processor.app.plan import Plan, check_files
from processor.app.pool_with_limiter import MakeLimiter
from processor.app.run_parts import open_run_parts
from processor.app.validation import open_checks
from processor.config.environment import environment
from processor.config.settings import Settings
from processor.config.settings_loading import load
from processor.core.errors import ConfigError, OutputError
from processor.core.events import Listener, Notice, RunStarted, Transport
from processor.core.fd_limit import max_connections
from processor.core.models import Job
from processor.endpoints.pool import EndpointPool
from processor.input.job_formats import JobDefaults
from processor.listeners.fan_out import FanOut
from processor.listeners.outage_reminder import OutageReminder
from processor.output.discarding_sink import DiscardingSink
from processor.output.index_entry import RunTarget
from processor.output.results_file import ResultsFile
from processor.output.rows_of_others import RowsOfOthers
from processor.output.sink import Sink
from processor.output.written_rows import WrittenRows
from processor.scheduler import Dependencies, RunOptions, Scheduler
from processor.session.answers import OpenJobs
from processor.session.handed_over import HandedOverJobs
from processor.session.journal_folder import JournalFolder
from processor.session.selection import EveryJob, JobSelection, UnwrittenJobs
from processor.tokens.counter import TokenCounter


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What a session is opened with."""

    settings: Settings | None
    """None: those that ``process`` would find."""
    journal: Path | None
    journal_folder: JournalFolder | None = None
    """In place of ``journal``."""
    make_limiter: MakeLimiter | None = None
    """Makes the limiter, where it is not one of this process."""
    listeners: Sequence[Listener]
    transport: Transport | None
    environ: Mapping[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCallbacks:
    """What a session hears of its run."""

    listener: Listener
    on_job_ended: Callable[[Job], None]
    has_replied: Callable[[str, str], bool]
    """See ``Dependencies``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionParts:
    """What a session works with."""

    scheduler: Scheduler
    sink: Sink
    endpoints: EndpointPool
    defaults: JobDefaults
    max_job_bytes: int
    selection: JobSelection
    emit: Listener


async def open_parts(
    options: SessionOptions,
    queue: HandedOverJobs,
    open_jobs: OpenJobs,
    callbacks: SessionCallbacks,
    stack: AsyncExitStack,
) -> SessionParts:
    """Open all that a session needs; ``stack`` closes it. Raises ConfigError."""
    transport = options.transport
    environ = environment(os.environ) if options.environ is None else options.environ
    settings = load(None, {}, environ) if options.settings is None else options.settings
    plan = _plan(options.journal, settings)
    accesses = resolved_accesses(plan, environ, transport)
    checks = await open_checks(plan, stack)
    reminder = OutageReminder(lambda event: emit(event))  # noqa: PLW0108 - assigned below
    stack.callback(reminder.close)
    emit = FanOut([callbacks.listener, reminder], external=options.listeners).emit
    parts = await open_run_parts(
        plan,
        accesses,
        transport,
        emit,
        checks,
        stack,
        max_connections=max_connections(),
        open_output=_open_output(options, plan),
        make_limiter=options.make_limiter,
    )
    sink, run_options = parts.sink, factory.run_options(plan)
    others = None if options.journal_folder is None else options.journal_folder.rows
    selection = _selection(sink, open_jobs, run_options, others)
    dependencies = Dependencies(
        source=aiter(queue),
        read_again=None,
        source_name=None,
        sink=sink,
        endpoints=parts.endpoints,
        transport=parts.send,
        counter=TokenCounter(settings.encoding, asyncio.to_thread),
        emit=emit,
        wall_clock=time.time,
        prices=parts.prices,
        validation=checks.validation,
        on_job_ended=callbacks.on_job_ended,
        has_replied=callbacks.has_replied,
    )
    notices = await check_prices(plan, dependencies, None) if parts.budget is not None else []
    now = asyncio.get_running_loop().time()
    emit(RunStarted(at=now, jobs=None, done=sink.recovered.replied))
    for text in notices:
        emit(Notice(at=now, text=text))
    scheduler = Scheduler(dependencies, run_options)
    queue.on_change = scheduler.wake
    return SessionParts(
        scheduler=scheduler,
        sink=sink,
        endpoints=parts.endpoints,
        defaults=job_defaults(settings, accesses),
        max_job_bytes=settings.max_line_bytes,
        selection=selection,
        emit=emit,
    )


def _open_output(options: SessionOptions, plan: Plan) -> Callable[[RunTarget], Awaitable[Sink]] | None:
    """Return what opens the output; None: it is the plan's results file."""
    if (folder := options.journal_folder) is not None:
        return lambda target: folder.open(plan, target)
    return _discard if options.journal is None else None


async def _discard(target: RunTarget) -> Sink:
    return DiscardingSink()


def _selection(sink: Sink, open_jobs: OpenJobs, options: RunOptions, others: RowsOfOthers | None) -> JobSelection:
    """Raises ConfigError where the journal cannot be read."""
    if not isinstance(sink, ResultsFile):
        return EveryJob(sink.job_index)
    try:
        return UnwrittenJobs(sink.job_index, WrittenRows(sink), open_jobs, options, others)
    except OutputError as error:
        raise ConfigError(str(error)) from None


def _plan(journal: Path | None, settings: Settings) -> Plan:
    """The plan of a run that reads no job file and shows nothing. Raises ConfigError."""
    plan = Plan(jobs=(), out="-" if journal is None else str(journal), settings=settings, quiet=True)
    if journal is not None:
        check_files(plan)
    return plan
