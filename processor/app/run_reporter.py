"""What a person sees of a run: the first lines, the events as they come, the summary."""

from __future__ import annotations

import asyncio
import shlex
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from processor.app.run_options import Plan
from processor.config.endpoint_resolution import EndpointAccess
from processor.core import exit_codes
from processor.core.errors import OutputError, reason
from processor.core.events import Listener, RunEvent, RunStarted
from processor.input.job_file import JobFile
from processor.output.recovery import OutputPaths
from processor.output.sink import Sink
from processor.scheduler import Outcome
from processor.stats.run_stats import RunStats
from processor.terminal import console, label_table, progress, startup_banner, summary
from processor.terminal.formatting import size

DEFAULT_ROW_BYTES = 2048
"""The assumed size of a row, where the results file has none yet."""


def mode(plan: Plan) -> progress.Mode:
    return progress.mode(progress=plan.progress and not plan.echo, quiet=plan.quiet)


def listeners(plan: Plan, tally: RunStats, shown: progress.Progress, stack: AsyncExitStack) -> Listener:
    listeners: list[Listener] = [tally, shown]
    if plan.log_file:
        from processor.listeners.json_log import JsonLog

        logbook = JsonLog(plan.log_file, time.time)
        stack.callback(logbook.close)
        listeners.append(logbook)

    def listen(event: RunEvent) -> None:
        for listener in listeners:
            listener(event)

    return listen


def begin(plan: Plan, access: EndpointAccess | None, source: JobFile, sink: Sink, listen: Listener) -> None:
    """Says what is about to happen, before anything does."""
    jobs = source.count_lines()
    if jobs is not None and plan.limit is not None:
        jobs = min(jobs, plan.limit)
    # With a limit it is not known yet how many of the first jobs are among those that are done.
    done = sink.recovered.replied if plan.limit is None else 0
    done = done if jobs is None else min(done, jobs)
    if not plan.quiet:
        label_table.show(startup_banner.rows(_opening(plan, access, sink, jobs, done)))
    listen(RunStarted(at=asyncio.get_running_loop().time(), jobs=jobs, done=done, simulated=plan.simulate))


def _opening(
    plan: Plan, access: EndpointAccess | None, sink: Sink, jobs: int | None, done: int
) -> startup_banner.Banner:
    limits = plan.settings.limits
    return startup_banner.Banner(
        source=plan.jobs,
        jobs=jobs,
        done=done,
        results=plan.out,
        endpoint=access.target.base_url.partition("?")[0] if access else "",
        key_from=access.key_from if access else None,
        concurrency=1 if plan.echo else plan.settings.concurrency,
        rpm=limits.rpm,
        tpm=limits.tpm,
        own_limits=tuple(limits.models),
        simulated=plan.simulate,
        damage=_damage(plan, sink),
        maybe_billed=0 if plan.simulate else sink.recovered.possibly_billed,
        warnings=_disk_space_warning(sink, jobs - done) if jobs is not None else (),
    )


def _damage(plan: Plan, sink: Sink) -> tuple[startup_banner.Damage, ...]:
    paths = OutputPaths.of(Path(plan.out))
    reports = ((paths.replies, sink.recovered.replies), (paths.failures, sink.recovered.failures))
    return tuple(
        startup_banner.Damage(
            file=str(path),
            count=report.damaged,
            numbers=tuple(report.damaged_lines),
            kept_aside=str(paths.damaged),
        )
        for path, report in reports
        if report.damaged
    )


def _disk_space_warning(sink: Sink, jobs_left: int) -> tuple[str, ...]:
    """Return a warning if the disk may be too small for the rows still to be written."""
    with suppress(OutputError):
        free_bytes = sink.free_bytes()
        needed_bytes = jobs_left * (sink.recovered.mean_reply_bytes or DEFAULT_ROW_BYTES)
        if free_bytes is not None and needed_bytes > free_bytes:
            return (f"{size(free_bytes)} are free, and about {size(needed_bytes)} still to come",)
    return ()


def end(plan: Plan, tally: RunStats, outcome: Outcome) -> None:
    """Says what the run has come to, and how to go on."""
    errors = OutputPaths.of(Path(plan.out)).failures
    closing = summary.SummaryContext(
        results=plan.out,
        errors=str(errors) if plan.out != "-" and errors.exists() else None,
        command=shlex.join(plan.command) if plan.command and plan.jobs != "-" and plan.out != "-" else None,
    )
    if plan.summary_json:
        _write_json(plan.summary_json, tally, closing)
    if not plan.quiet:
        label_table.show(summary.rows(tally, closing))
    is_said = tally.stopping is not None and not plan.quiet
    if outcome.reason and outcome.exit_code != exit_codes.INTERRUPTED and not is_said:
        console.print_error(outcome.reason)


def _write_json(path: Path, tally: RunStats, closing: summary.SummaryContext) -> None:
    import orjson

    try:
        path.write_bytes(orjson.dumps(summary.summary_json(tally, closing)) + b"\n")
    except OSError as error:
        console.print_error(f"cannot write {path}: {reason(error)}")
