"""What a run reports: the banner before it, its events to the listeners, the summary after it."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from processor.app import factory
from processor.app.cluster import WorkersShown
from processor.app.job_source import count_planned_lines
from processor.app.plan import Plan
from processor.app.requested_listeners import open_hook, open_metrics
from processor.app.run_description import describe_run
from processor.config.endpoint_resolution import EndpointAccess
from processor.core import exit_codes, platform
from processor.core.errors import ConfigError, OutputError, reason
from processor.core.events import Listener, Notice, RunStarted
from processor.core.fd_limit import RESERVED_FILES
from processor.core.models import JSON
from processor.core.private_files import pipe_opener
from processor.core.secrets import mask_values
from processor.core.text import setting_name
from processor.input.job_files import JobFiles
from processor.listeners.fan_out import FanOut
from processor.listeners.outage_reminder import OutageReminder
from processor.output.paths import OutputPaths
from processor.output.sink import Sink
from processor.scheduler import Forecast, Outcome
from processor.stats.history_file import HistoryFile
from processor.stats.run_stats import RunStats
from processor.stats.summary_json import SummaryContext, summary_json
from processor.terminal import console, label_table, startup_banner, summary
from processor.terminal.formatting import plural, size
from processor.terminal.progress import Mode

if TYPE_CHECKING:
    from processor.batch.batch_budget import BatchBudget
    from processor.endpoints.budget_gate import BudgetGate

FEW_CONNECTIONS = 256
"""With fewer a run may be limited by them, if ``--concurrency`` does not ask for less."""

DEFAULT_ROW_BYTES = 2048
"""The assumed size of a row, where the results file has none yet."""


def open_listeners(
    plan: Plan,
    accesses: Sequence[EndpointAccess],
    stats: RunStats,
    progress: Listener,
    external: Iterable[Listener],
    stack: AsyncExitStack,
) -> Listener:
    """One listener for all: those given and those that the plan asks for. ``stack`` closes the latter."""
    own: list[Listener] = [stats, progress]
    if plan.log_file:
        from processor.listeners.json_log import JsonLog

        log = JsonLog(plan.log_file, time.time)
        stack.callback(log.close)
        own.append(log)
    if plan.out != "-":
        history = HistoryFile(OutputPaths.of(Path(plan.out)).history, stats, partial(describe_run, plan), time.time)
        stack.callback(history.close)
        own.append(history)
    if plan.metrics_file:
        own.append(open_metrics(plan.metrics_file, accesses, stats, stack))
    if plan.settings.hooks.notice:
        own.append(open_hook(plan, plan.settings.hooks.notice, stats, lambda event: emit(event), stack))  # noqa: PLW0108
    reminder = OutageReminder(lambda event: emit(event))  # noqa: PLW0108 - assigned below
    stack.callback(reminder.close)
    emit = FanOut([*own, reminder], external=external).emit
    return emit


def report_start(
    plan: Plan,
    accesses: Sequence[EndpointAccess],
    job_files: JobFiles,
    sink: Sink,
    emit: Listener,
    workers: WorkersShown | None = None,
) -> None:
    """Prints the banner and emits RunStarted."""
    jobs = count_planned_lines(plan, job_files)
    expected = factory.forecast_of(plan, job_files, sink)
    banner = replace(_banner(plan, accesses, sink, jobs, expected), workers=str(workers) if workers else None)
    label_table.print_rows(startup_banner.warning_rows(banner) if plan.quiet else startup_banner.banner_rows(banner))
    done = expected.done if expected else _estimated_done(plan, sink, jobs)
    emit(RunStarted(at=asyncio.get_running_loop().time(), jobs=jobs, done=done, simulated=plan.simulate))


def report_notices(texts: Iterable[str], emit: Listener) -> None:
    at = asyncio.get_running_loop().time()
    for text in texts:
        emit(Notice(at=at, text=text))


def _estimated_done(plan: Plan, sink: Sink, jobs: int | None) -> int:
    """At most how many jobs have a reply, where the file was not compared with the results."""
    # With --limit the finished jobs may be beyond the limit: they are counted as they are read.
    done = sink.recovered.replied if plan.limit is None else 0
    return done if jobs is None else min(done, jobs)


def show_budget(stats: RunStats, budget: BudgetGate | BatchBudget | None) -> None:
    """Let the statistics know the run's budget, if it has one, and say so where most of it is spent already."""
    if budget is not None:
        stats.budget = budget.budget.in_usd
        stats.needed_budget_usd = budget.budget.needed_usd
        budget.budget.report_if_mostly_spent()


def report_lack(plan: Plan, emit: Listener, *, concurrency: int, progress_mode: Mode) -> None:
    """Emits a notice of each thing that the plan expects and the system does not offer."""
    at = asyncio.get_running_loop().time()
    if (text := _fd_limit_text(plan, concurrency)) is not None:
        emit(Notice(at=at, text=text))
    if plan.progress in ("panel", "line") and progress_mode == "log":
        wanted = setting_name("progress", plan.progress)
        emit(Notice(at=at, text=f"{wanted} needs a terminal that shows escape codes: this is a log"))
    if plan.out != "-" and not platform.HAS_FILE_LOCKS:
        text = f"this system has no file locks: do not start a second run on {plan.results_name} while this one works"
        emit(Notice(at=at, text=text, is_warning=True))


def _fd_limit_text(plan: Plan, concurrency: int) -> str | None:
    """What to say where the limit on open files keeps requests from being in flight; None where it does not."""
    wanted = plan.settings.fixed_concurrency
    if plan.echo or plan.settings.local or concurrency >= (wanted or FEW_CONNECTIONS):
        return None
    allowed = f"the limit on open files allows {plural(concurrency, 'connection')} at a time"
    which = f", not the {wanted} of {setting_name('concurrency')}" if wanted else ", which limits this run"
    needed = (wanted or FEW_CONNECTIONS) + RESERVED_FILES
    return f"{allowed}{which}: raise it with `ulimit -n {needed}` before the start"


def _banner(
    plan: Plan, accesses: Sequence[EndpointAccess], sink: Sink, jobs: int | None, expected: Forecast | None
) -> startup_banner.Banner:
    limits = plan.settings.limits
    to_send = expected.to_send if expected else None
    return startup_banner.Banner(
        source=plan.jobs_name if plan.shard is None else f"part {plan.shard} of {plan.jobs_name}",
        jobs=jobs,
        done=expected.done if expected else None,
        failed_permanently=expected.failed_permanently if expected else 0,
        not_jobs=expected.not_jobs if expected else 0,
        to_send=to_send,
        earlier_replies=sink.recovered.replied,
        results=plan.results_name,
        journal=plan.out if plan.published_at else None,
        endpoints=tuple(
            startup_banner.EndpointShown(
                local_model=str(access.local_model) if access.local_model else None,
                name=access.settings.name if access.settings else None,
                address=access.target.address,
                key_from=access.key_from,
                address_from=access.address_from,
            )
            for access in accesses
        ),
        concurrency=1 if plan.echo else plan.settings.fixed_concurrency,
        rpm=limits.rpm,
        tpm=limits.tpm,
        own_limits=tuple(limits.models),
        in_batches=plan.in_batches,
        simulated=plan.simulate,
        is_awaited=plan.reads_stdin and console.is_typed(),
        damage=_damage(plan, sink),
        possibly_billed=0 if plan.simulate else sink.recovered.possibly_billed,
        warnings=(
            *_key_warnings(plan, accesses),
            *_warnings(plan, sink, jobs if to_send is None else to_send, expected),
        ),
    )


def _key_warnings(plan: Plan, accesses: Sequence[EndpointAccess]) -> tuple[str, ...]:
    ignored = plan.settings.ignored_commands
    if not accesses:  # the simulator needs no key
        return tuple(text for text in ignored if text.startswith("hooks."))
    unused = (
        f"the key in {access.unused_key} is not sent to {access.target.address} unencrypted; "
        f"{setting_name('allow_http', True)} allows it"
        for access in accesses
        if access.unused_key is not None
    )
    return (*ignored, *unused)


def _damage(plan: Plan, sink: Sink) -> tuple[startup_banner.Damage, ...]:
    paths = OutputPaths.of(Path(plan.out))
    reports = ((paths.replies, sink.recovered.replies), (paths.failures, sink.recovered.failures))
    return tuple(
        startup_banner.Damage(
            file=str(path),
            count=report.damaged,
            line_numbers=tuple(report.damaged_lines),
            kept_in=str(paths.damaged),
        )
        for path, report in reports
        if report.damaged
    )


def _warnings(plan: Plan, sink: Sink, jobs_left: int | None, expected: Forecast | None) -> tuple[str, ...]:
    weaknesses = () if plan.settings.output.accept_weaker else tuple(sink.recovered.weaknesses)
    return (
        *weaknesses,
        *_table_name_warning(plan),
        *(_foreign_rows_warning(plan, expected) if expected else ()),
        *(_disk_space_warning(sink, jobs_left) if jobs_left is not None else ()),
    )


def _table_name_warning(plan: Plan) -> tuple[str, ...]:
    """A warning if the name of the results promises a table."""
    if not plan.results_name.lower().endswith((".csv", ".tsv", ".parquet", ".xlsx")):
        return ()
    return ("the results are JSON lines, whatever their name: process export makes a table of them",)


def _foreign_rows_warning(plan: Plan, expected: Forecast) -> tuple[str, ...]:
    """A warning if the output seems to be that of another job file."""
    if expected.has_known_jobs or not expected.to_send or plan.limit is not None:
        return ()
    rows = plural(expected.rows_without_job, "row")
    here = plan.results_name
    return (f"none of the {rows} in {here} is of a job in {plan.jobs_name}: is it the output of another job file?",)


def _disk_space_warning(sink: Sink, jobs_left: int) -> tuple[str, ...]:
    """A warning if the disk may be too small for the rows still to be written."""
    with suppress(OutputError):
        free_bytes = sink.free_bytes()
        needed_bytes = jobs_left * (sink.recovered.mean_reply_bytes or DEFAULT_ROW_BYTES)
        if free_bytes is not None and needed_bytes > free_bytes:
            return (f"the disk has {size(free_bytes)} free, the results may need {size(needed_bytes)} more",)
    return ()


def report_end(plan: Plan, stats: RunStats, outcome: Outcome, *, is_below_banner: bool) -> None:
    """Prints the summary, and writes it as JSON where the plan says so.

    ``is_below_banner``: nothing was printed since the banner, which ends in a blank line.
    """
    errors = OutputPaths.of(Path(plan.out)).failures
    can_continue = plan.command and not plan.reads_stdin and plan.out != "-"
    context = SummaryContext(
        results=plan.results_name,
        errors=str(errors) if plan.out != "-" and errors.exists() else None,
        rows_without_job=outcome.rows_without_job,
        command=shlex.join(plan.command) if can_continue else None,
    )
    if plan.summary_json:
        _write_json(plan.summary_json, stats, context)
    if not plan.quiet:
        rows = summary.summary_rows(stats, context)
        label_table.print_rows(rows[1:] if is_below_banner and rows[0] == label_table.BLANK else rows)
    if plan.report:
        _write_report(plan, plan.report, context.command)
    is_in_summary = stats.stop_reason is not None and not plan.quiet
    if outcome.reason and outcome.exit_code == exit_codes.COMPLETE:
        label_table.print_rows([label_table.LabelRow("note", outcome.reason)])
    elif outcome.reason and outcome.exit_code != exit_codes.INTERRUPTED and not is_in_summary:
        console.print_error(outcome.reason)


def _write_json(path: Path, stats: RunStats, context: SummaryContext) -> None:
    try:
        with open(path, "wb", opener=pipe_opener) as file:
            file.write(_summary_line(summary_json(stats, context)))
    except OSError as error:
        console.print_error(f"cannot write the summary {path}: {reason(error)}")


def _write_report(plan: Plan, path: Path, command: str | None) -> None:
    from processor.report.data import ReportOptions
    from processor.report.make_report import make_report

    try:
        make_report(Path(plan.out), path, ReportOptions(), command=command)
    except (ConfigError, OutputError) as error:
        console.print_error(str(error))


def _summary_line(values: JSON) -> bytes:
    mask_values(values)
    # Not by orjson, which refuses the name of a file that is not UTF-8.
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"
