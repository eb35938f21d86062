"""A whole run, in the order in which its parts are opened and closed."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace

from processor.app import factory, run_reporter
from processor.app.accesses import resolved_accesses
from processor.app.budget import check_prices
from processor.app.deadline import open_deadline
from processor.app.job_source import open_job_files
from processor.app.outputs import with_work_folder
from processor.app.plan import Plan, check_files
from processor.app.progress_display import open_progress, show_details
from processor.app.run_parts import open_run_parts
from processor.app.signals import handle_signals
from processor.app.unhandled_errors import log_unhandled
from processor.app.validation import open_checks
from processor.config.endpoint_resolution import EndpointAccess
from processor.core import platform
from processor.core.errors import ConfigError
from processor.core.events import Listener, RunFinished, Transport
from processor.core.fd_limit import raised_fd_limit
from processor.core.gc_pause import relax_gc
from processor.core.text import Surface, messages_for, setting_name
from processor.scheduler import Scheduler
from processor.stats.run_stats import RunStats


def run(
    plan: Plan,
    environ: Mapping[str, str] | None = None,
    *,
    listeners: Sequence[Listener] = (),
    transport: Transport | None = None,
) -> int:
    """Runs the plan on an event loop of its own and returns the exit code. Ctrl-C stops it in order.

    Call it from the main thread. ``environ`` holds the key; None: the environment and ``.env``. Each listener gets
    every event of the run; one that raises an exception is not called again, and the run goes on. ``transport`` sends
    the requests in place of HTTP; a key is then not required. Raises ConfigError before anything is sent.
    """
    with messages_for(_surface_of(plan)):
        accesses = resolved_accesses(plan, environ, transport)
        loop_factory = platform.event_loop_factory()
        with relaxed_gc(), platform.own_wakeup_descriptor(), asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.get_loop().set_exception_handler(log_unhandled)
            return runner.run(_run(plan, accesses, listeners, transport, stop_on_signals=True))


async def run_async(
    plan: Plan,
    environ: Mapping[str, str] | None = None,
    *,
    listeners: Sequence[Listener] = (),
    transport: Transport | None = None,
) -> int:
    """Does the same as ``run`` inside a running loop, but handles no signals. If cancelled, aborts all requests."""
    with messages_for(_surface_of(plan)):
        accesses = resolved_accesses(plan, environ, transport)
        return await _run(plan, accesses, listeners, transport, stop_on_signals=False)


def _surface_of(plan: Plan) -> Surface:
    """Only a plan of the command line has the words of it."""
    return "command line" if plan.command else "plan"


@contextmanager
def relaxed_gc() -> Iterator[None]:
    """Collect garbage less often: see ``core.gc_pause``."""
    previous = relax_gc()
    try:
        yield
    finally:
        gc.set_threshold(*previous)


async def _run(
    plan: Plan,
    accesses: Sequence[EndpointAccess],
    listeners: Sequence[Listener],
    transport: Transport | None,
    *,
    stop_on_signals: bool,
) -> int:
    plan = with_work_folder(plan)
    check_files(plan)
    if plan.in_batches or plan.detach or plan.stream_after is not None:
        ended = await _run_batch(plan, accesses, listeners, transport, stop_on_signals=stop_on_signals)
        if not isinstance(ended, Plan):
            return ended
        plan = ended
    async with AsyncExitStack() as stack:
        max_connections = stack.enter_context(raised_fd_limit())
        job_files = open_job_files(plan, accesses)
        stack.callback(job_files.close)
        checks = await open_checks(plan, stack)
        stats = RunStats()
        progress = open_progress(plan, accesses, stats)
        emit = run_reporter.open_listeners(plan, accesses, stats, progress, listeners, stack)
        parts = await open_run_parts(plan, accesses, transport, emit, checks, stack, max_connections=max_connections)
        sink, endpoints = parts.sink, parts.endpoints
        dependencies = replace(
            factory.dependencies(plan, job_files, sink, parts.send, endpoints, emit, parts.prices, checks.validation),
            deadline=open_deadline(plan, stats, time.time),
        )
        notices = await check_prices(plan, dependencies, job_files) if parts.budget is not None else []
        run_reporter.report_start(plan, accesses, job_files, sink, emit, parts.workers)
        run_reporter.report_notices(notices, emit)
        run_reporter.show_budget(stats, parts.budget)
        run_reporter.report_lack(plan, emit, concurrency=parts.concurrency, progress_mode=progress.mode)
        scheduler = Scheduler(dependencies, factory.run_options(plan))
        show_details(progress, stats, scheduler, endpoints, parts.workers)
        if stop_on_signals:
            stack.enter_context(handle_signals(scheduler, stats, progress))
        with progress:
            outcome = await scheduler.run()
        emit(RunFinished(at=asyncio.get_running_loop().time(), exit_code=outcome.exit_code, reason=outcome.reason))
    run_reporter.report_end(plan, stats, outcome, is_below_banner=not (progress.has_printed or plan.echo))
    return outcome.exit_code


async def _run_batch(
    plan: Plan,
    accesses: Sequence[EndpointAccess],
    listeners: Sequence[Listener],
    transport: Transport | None,
    *,
    stop_on_signals: bool,
) -> int | Plan:
    """Run the plan through the batch API. Return the exit code, or the plan of the run that streams what is left."""
    if not plan.in_batches:
        given = setting_name("detach" if plan.detach else "stream_after")
        raise ConfigError(f"{given} needs {setting_name('in_batches')}: add it")
    from processor.app.batch_run import check_batch, run_batch, without_batch

    check_batch(plan, accesses, transport)
    ended = await run_batch(plan, accesses, listeners, stop_on_signals=stop_on_signals)
    return without_batch(plan) if ended.stream_rest else ended.outcome.exit_code
