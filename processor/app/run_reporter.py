"""What a person sees of a run: the first lines, the events as they come, the summary."""

from __future__ import annotations

import asyncio
import shlex
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from processor.app.factory import OutputSink
from processor.app.run_options import Plan
from processor.config.endpoint_resolution import EndpointAccess
from processor.core import exit_codes
from processor.core.errors import OutputError, reason
from processor.core.events import Listener, RunEvent, RunStarted
from processor.input.job_file import JobFile
from processor.output.recovery import Paths
from processor.output.results_file import ResultsFile
from processor.scheduler import Outcome
from processor.stats.run_stats import RunStats
from processor.terminal import console, label_table, progress, startup_banner, summary
from processor.terminal.formatting import size

ROW_BYTES = 2048
"""What a row takes, where there are none yet to tell."""


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


def begin(plan: Plan, access: EndpointAccess | None, source: JobFile, sink: OutputSink, listen: Listener) -> None:
    """Says what is about to happen, before anything does."""
    jobs = source.count()
    if jobs is not None and plan.limit is not None:
        jobs = min(jobs, plan.limit)
    # Whether the first jobs of the file are among those done, nobody knows yet.
    done = sink.replied if isinstance(sink, ResultsFile) and plan.limit is None else 0
    done = done if jobs is None else min(done, jobs)
    if not plan.quiet:
        label_table.show(startup_banner.rows(_opening(plan, access, sink, jobs, done)))
    listen(RunStarted(at=asyncio.get_running_loop().time(), jobs=jobs, done=done, simulated=plan.simulate))


def _opening(
    plan: Plan, access: EndpointAccess | None, sink: OutputSink, jobs: int | None, done: int
) -> startup_banner.Banner:
    limits = plan.settings.limits
    journal = sink if isinstance(sink, ResultsFile) else None
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
        damage=_damage(journal) if journal else (),
        maybe_billed=journal.maybe_billed if journal and not plan.simulate else 0,
        warnings=_little_room(journal, jobs, done) if journal and jobs is not None else (),
    )


def _damage(journal: ResultsFile) -> tuple[startup_banner.Damage, ...]:
    aside = str(journal.paths.damaged)
    return tuple(
        startup_banner.Damage(file=str(path), count=found.damaged, numbers=tuple(found.damaged_lines), kept_aside=aside)
        for path, found in journal.found.items()
        if found.damaged
    )


def _little_room(journal: ResultsFile, jobs: int, done: int) -> tuple[str, ...]:
    """A warning, where the disk may not hold what is still to come."""
    with suppress(OutputError):
        free = journal.free_bytes()
        rows_bytes = journal.found[journal.paths.replies].size / journal.replied if journal.replied else ROW_BYTES
        needed = (jobs - done) * rows_bytes
        if needed > free:
            return (f"{size(free)} are free, and about {size(needed)} still to come",)
    return ()


def end(plan: Plan, tally: RunStats, outcome: Outcome) -> None:
    """Says what the run has come to, and how to go on."""
    errors = Paths.of(Path(plan.out)).failures
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
