"""``process estimate``: reads the job file and the rows of earlier runs, and sends nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from processor.app import factory
from processor.app.deadline import SHARE
from processor.app.endpoint_factory import limit_settings, seconds_alone
from processor.app.job_source import check_order, open_job_files
from processor.app.known_tariffs import KnownTariffs
from processor.app.outputs import with_local_out
from processor.app.plan import Plan, check_names
from processor.app.prices import price_factor
from processor.config.endpoint_resolution import EndpointAccess, resolve_endpoints
from processor.core.errors import ConfigError, reason
from processor.core.money import RowCosts, pico_usd
from processor.estimate.batch_price import batch_price
from processor.estimate.duration import Duration, InFlight, Start, duration_of
from processor.estimate.estimate import Estimate
from processor.estimate.group_totals import GroupTotals
from processor.estimate.job_costs import BudgetFit, JobCosts
from processor.estimate.job_counts import JobCounter, JobCounts
from processor.estimate.job_sizes import ScanOptions, SizedJob, read_parts
from processor.estimate.known_replies import MIN_REPLIES, KnownReplies
from processor.estimate.seen_limits import SeenLimits, likeliest_counter, seen_in
from processor.estimate.sending_order import SendingOrder
from processor.input.job_file import JobFile
from processor.input.line_splitter import raise_if_cut
from processor.output.in_flight_log import read_spent
from processor.output.job_index import JobIndex
from processor.output.paths import OutputPaths
from processor.output.scanner import scan_file
from processor.output.sink import SpentEarlier
from processor.output.storage import LocalStorage
from processor.ratelimit.settings import LimitSettings
from processor.scheduler.deadline import UNKNOWN_REPLY_S
from processor.stats.history_file import read_history

OnRead = Callable[[int, int], None]
"""Called with the bytes and lines read so far."""


def estimate(plan: Plan, environ: Mapping[str, str], on_read: OnRead = lambda end, lines: None) -> Estimate:
    """Raises ConfigError where a file cannot be read."""
    plan = with_local_out(plan)
    check_names(plan)
    accesses = resolve_endpoints(plan.settings, environ, needs_key=False)
    alone_s = seconds_alone(accesses[0].target)
    limits = limit_settings(plan.settings, accesses[0], first_alone_s=alone_s)
    replies = known_replies(plan, plan.like)
    paths = OutputPaths.of(Path(plan.out))
    index, spent = load_index(plan, accesses, paths)
    tariffs, now, max_cost_usd = KnownTariffs(plan, accesses), time.time(), plan.settings.max_cost_usd
    fit = None if max_cost_usd is None else BudgetFit(max(pico_usd(max_cost_usd) - spent.pico, 0))
    order = SendingOrder(plan.order, fit)
    counter = JobCounter(
        index, factory.run_options(plan), limits, replies, JobCosts(tariffs.of, now), order, plan.limit
    )
    size = _read_jobs(plan, accesses, counter, tariffs, on_read)
    order.close()
    groups, duration_within = counter.counts.groups, _duration(plan, accesses[0], limits, replies)
    left_s = None if plan.until is None else plan.until - now
    late_s = 0.0 if left_s is None else _late_s(replies, left_s)
    preset = accesses[0].provider.batch if len(accesses) == 1 else None
    return Estimate(
        jobs=plan.jobs_name,
        files=tuple(plan.job_files),
        size=size,
        results=plan.results_name,
        command=plan.command,
        counts=counter.counts,
        replies=replies,
        duration=duration_within(groups),
        now=now,
        until=plan.until,
        order=plan.order,
        late_s=late_s,
        fit=None if left_s is None else _fit_until(order, left_s - late_s, groups, duration_within),
        max_cost_usd=max_cost_usd,
        budget=fit,
        unpriced=() if fit is None else _unpriced(counter.counts),
        batch=batch_price(
            counter.counts.models,
            () if preset is None else preset.paths,
            price_factor(plan.settings, preset),
        ),
    )


def _unpriced(counts: JobCounts) -> tuple[str, ...]:
    """The models without a price, which a run with a budget does not start with."""
    return tuple(dict.fromkeys(model for (model, _), totals in counts.models.items() if totals.costs.unknown))


def _fit_until(
    order: SendingOrder,
    allowed_s: float,
    groups: Mapping[str, GroupTotals],
    duration_within: Callable[[Mapping[str, GroupTotals]], Duration],
) -> int | None:
    """About how many jobs are sent in this time; None where no time is known."""
    if allowed_s < 0:
        return 0
    return order.jobs_within(allowed_s, groups, lambda part: duration_within(part).sending_s)


def _late_s(replies: KnownReplies, left_s: float) -> float:
    """How long before the deadline the last request is sent: nearly every reply takes less."""
    known_s = None if replies.all is None else replies.all.quantile_s(SHARE)
    if known_s is not None:
        return known_s
    # A run sends nothing where less time is left than that, and then learns how long its replies take.
    return UNKNOWN_REPLY_S if left_s < UNKNOWN_REPLY_S else 0.0


def _duration(
    plan: Plan, access: EndpointAccess, limits: LimitSettings, replies: KnownReplies
) -> Callable[[Mapping[str, GroupTotals]], Duration]:
    """Returns how long jobs take that charge the limit groups so much."""
    concurrency, sample = plan.settings.fixed_concurrency, replies.all
    response_s = 0.0 if sample is None else sample.first_response_s or 0.0
    tail_s = 0.0 if sample is None or concurrency is None else sample.tail_s(concurrency)
    return partial(
        duration_of,
        limits=limits,
        seen=seen_limits(plan, plan.like),
        likeliest=likeliest_counter(access.provider.counter_period_s),
        start=Start(alone_s=min(response_s, limits.first_alone_s), probe_s=response_s),
        in_flight=None if concurrency is None else InFlight(requests=concurrency, tail_s=tail_s),
    )


def known_replies(plan: Plan, like: Path | None) -> KnownReplies:
    """The replies of ``like``, which must be enough, or those in the output, if there are enough."""
    try:
        known = KnownReplies.of_file(like or Path(plan.out))
    except OSError as error:
        if like is None:
            return KnownReplies.none()
        raise ConfigError(f"cannot read {like}: {reason(error)}") from None
    if like is not None and known.all is None:
        raise ConfigError(f"{like} has {known.count} replies: give results with at least {MIN_REPLIES}")
    return known


def load_index(plan: Plan, accesses: Sequence[EndpointAccess], paths: OutputPaths) -> tuple[JobIndex, SpentEarlier]:
    """Load the rows of earlier runs. Return them, and what these runs have spent."""
    costs = RowCosts()
    index, storage, target = JobIndex(), LocalStorage(), factory.run_target(plan, accesses)
    try:
        for path, replies in ((paths.replies, True), (paths.failures, False)):
            report = scan_file(storage, path, index, replies=replies, simulated=plan.simulate, target=target)
            costs.add_all(report.costs)
        beside_rows_pico = read_spent(storage, paths.state)
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename or plan.out}: {reason(error)}") from None
    return index, SpentEarlier(rows_pico=costs.pico, beside_rows_pico=beside_rows_pico, unknown_rows=costs.unknown)


def _read_jobs(
    plan: Plan, accesses: Sequence[EndpointAccess], counter: JobCounter, tariffs: KnownTariffs, on_read: OnRead
) -> int:
    """Count all jobs. Returns the size of the files."""
    with closing(open_job_files(plan, accesses)) as job_files:
        check_order(plan, job_files)
        total = 0
        for file in job_files.files:
            total += _size_of(file)

        def report(before: int, end: int) -> None:
            on_read(before + end, counter.counts.lines)

        before = 0
        for file in job_files.files:
            counter.begin_file(file.defaults.source)
            _read_file(plan, file, counter, tariffs, partial(report, before))
            before += _size_of(file)
    return total


def _size_of(file: JobFile) -> int:
    if file.size is None:
        raise ConfigError(f"{file.path} is no regular file, and the jobs are read in parts: save them to a file")
    return file.size


def _read_file(
    plan: Plan, file: JobFile, counter: JobCounter, tariffs: KnownTariffs, on_read: Callable[[int], None]
) -> None:
    """Count the jobs of one file, within ``--limit``."""
    options = ScanOptions(
        defaults=file.defaults,
        max_line_bytes=plan.settings.max_line_bytes,
        encoding=plan.settings.encoding,
        is_ordered=plan.order != "file",
    )
    size, end = _size_of(file), 0
    try:
        with closing(read_parts(file, options)) as parts:
            for part in parts:
                tariffs.load({item.size.model for item in part.items if isinstance(item, SizedJob)})
                counter.add(part)
                end = part.end
                on_read(end)
                if counter.is_full:
                    return
        raise_if_cut(end, size)
    except OSError as error:
        raise ConfigError(f"cannot read {file.path}: {reason(error)}") from None


def seen_limits(plan: Plan, like: Path | None) -> SeenLimits:
    """What an earlier run tells about the server's limits: the last of the output, else the one that wrote ``like``."""
    found = _seen_in(Path(plan.out))
    return found or (_seen_in(like) if like else None) or SeenLimits()


def _seen_in(results: Path) -> SeenLimits | None:
    """None where no history tells of replies."""
    try:
        return seen_in(read_history(OutputPaths.of(results).history))
    except OSError:
        return None
