"""Makes what shows the progress of a run, and gives it what only the parts at work know."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from heapq import nsmallest
from pathlib import PurePath
from urllib.parse import urlsplit

from processor.app.cluster import WorkersShown
from processor.app.plan import Plan
from processor.config.endpoint_resolution import EndpointAccess
from processor.core.text import one_line
from processor.endpoints.pool import EndpointPool
from processor.scheduler import Scheduler
from processor.stats.run_stats import RunStats
from processor.terminal import console
from processor.terminal.panel_recorder import EndpointUse, PanelContext, RequestInFlight
from processor.terminal.progress import Progress, ProgressChoice, choose_mode


def open_progress(plan: Plan, accesses: Sequence[EndpointAccess], stats: RunStats) -> Progress:
    """The display that the plan asks for. Replies that stream to the terminal leave room for nothing else."""
    choice: ProgressChoice = "none" if plan.echo else plan.progress
    mode = choose_mode(choice, quiet=plan.quiet, is_shared=_is_shared(plan))
    return Progress(stats, mode, context=_context(plan, accesses))


def _is_shared(plan: Plan) -> bool:
    """Whether a person types jobs at the terminal, or the results are printed there."""
    if plan.reads_stdin and console.is_typed():
        return True
    with suppress(OSError, ValueError):
        return plan.out == "-" and sys.stdout.isatty()
    return False


def _context(plan: Plan, accesses: Sequence[EndpointAccess]) -> PanelContext:
    return PanelContext(
        source=_source(plan),
        destination=_destination(plan, accesses),
        key_from=accesses[0].key_from if len(accesses) == 1 else None,
        concurrency=plan.settings.fixed_concurrency,
        max_outage_s=plan.settings.waiting.max_outage_s,
    )


def _source(plan: Plan) -> str:
    """The name of the job file, without its folder; of several as messages call them."""
    if len(plan.job_files) == 1 and not plan.reads_stdin:
        return one_line(PurePath(plan.job_files[0]).name)
    return one_line(plan.jobs_name)


def _destination(plan: Plan, accesses: Sequence[EndpointAccess]) -> str:
    if plan.settings.local is not None:
        return f"{PurePath(plan.settings.local).name} on this machine"
    if not accesses:
        return "the built-in simulator"
    if len(accesses) > 1:
        return f"{len(accesses)} endpoints"
    url = urlsplit(accesses[0].target.base_url)
    return f"{url.hostname}:{url.port}" if url.port else f"{url.hostname}"


def show_details(
    progress: Progress, stats: RunStats, scheduler: Scheduler, endpoints: EndpointPool, workers: WorkersShown | None
) -> None:
    """Let the display ask the parts at work."""
    if workers is not None:
        stats.in_flight_by_worker = workers.in_flight
    stats.next_start_at = scheduler.next_start_at
    progress.details.oldest_requests = partial(_oldest_requests, scheduler)
    progress.details.endpoints = partial(_endpoint_uses, endpoints)


def _oldest_requests(scheduler: Scheduler, count: int) -> list[RequestInFlight]:
    oldest = nsmallest(count, scheduler.in_flight, key=lambda state: state.attempt_started_at)
    return [
        RequestInFlight(
            custom_id=state.job.custom_id,
            line=state.job.line,
            attempt=state.attempts + 1,
            started_at=state.attempt_started_at,
        )
        for state in oldest
    ]


def _endpoint_uses(endpoints: EndpointPool) -> list[EndpointUse]:
    return [
        EndpointUse(
            name=state.name,
            requests=state.granted,
            in_flight=state.in_flight,
            down_since=state.health.outages.down_since,
            next_probe_at=state.health.outages.next_probe_at,
            stopped="; ".join(state.health.closed_reasons) or None,
        )
        for state in endpoints
    ]
