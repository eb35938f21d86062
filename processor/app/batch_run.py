"""A run through the provider's batch API: checks that it is possible, makes its objects, runs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from processor.app import factory, run_reporter
from processor.app.batch_access import batch_accesses, batch_preset, connection_flags, simulated_target
from processor.app.budget import open_budget
from processor.app.job_source import open_job_files, unfinished_jobs
from processor.app.open_batches import open_log
from processor.app.outputs import open_results_file
from processor.app.plan import Plan
from processor.app.prices import price_factor, price_list
from processor.app.progress_display import open_progress
from processor.app.signals import handle_signals
from processor.app.validation import open_checks
from processor.batch.batch_budget import BatchBudget
from processor.batch.batch_log import BatchLog
from processor.batch.batch_run import BatchRun
from processor.batch.dependencies import BatchDependencies, BatchOptions, BatchOutcome
from processor.batch.provider_batches import ProviderBatches
from processor.batch.registry import BATCH_APIS
from processor.batch.sizes import BatchLimits
from processor.batch.upload_file import UploadPath
from processor.config import GENERIC
from processor.config.batch_presets import BatchPreset
from processor.config.endpoint_resolution import EndpointAccess, named_provider
from processor.config.settings import SCHEMA_IN_JOB
from processor.core.api_calls import ApiClient
from processor.core.errors import ConfigError
from processor.core.events import Listener, RunFinished, Transport
from processor.core.models import Target
from processor.core.text import setting_name
from processor.cost.price_list import PriceList
from processor.output.paths import OutputPaths
from processor.output.results_file import ResultsFile
from processor.output.storage import LocalStorage
from processor.protocols import RequestOptions, options_without
from processor.stats.run_stats import RunStats
from processor.tokens.counter import TokenCounter

if TYPE_CHECKING:
    from processor.http.api_client import HttpApiClient

SIMULATED_POLL_S = 0.5
"""Batches of the simulator take seconds."""


def check_batch(plan: Plan, accesses: Sequence[EndpointAccess], transport: Transport | None) -> None:
    """Raises ConfigError where this run cannot go through a batch API."""
    _check_detach(plan)
    later = f"a run with {setting_name('in_batches')} goes on later"
    if plan.reads_stdin:
        raise ConfigError(f"{later}, when stdin is gone: save the jobs to a file")
    if plan.out == "-":
        raise ConfigError(
            f"{later}, from what stands in the results file: give {setting_name('out', 'FILE')} rather than "
            f"{setting_name('out', '-')}"
        )
    _check_other_flags(plan)
    if transport is not None or plan.settings.local is not None:
        raise ConfigError(
            f"{setting_name('in_batches')} needs a provider with a batch API: leave it out, or name another "
            f"{setting_name('base_url')}"
        )
    if len(accesses) > 1:
        raise ConfigError(
            f"{setting_name('in_batches')} uses one endpoint: leave out [[endpoints]] with another "
            f"{setting_name('config', 'FILE')}"
        )
    if batch_preset(plan.settings, accesses) is None:
        provider = accesses[0].provider if accesses else named_provider(plan.settings)
        what = accesses[0].target.address if accesses and provider is GENERIC else provider.name
        raise ConfigError(
            f"no batch API is known at {what}: leave out {setting_name('in_batches')}, or give another "
            f"{setting_name('base_url')}"
        )


def _check_other_flags(plan: Plan) -> None:
    if plan.order != "file":
        raise ConfigError(
            f"{setting_name('order')} has no effect with {setting_name('in_batches')}: the provider chooses the "
            "order; leave it out"
        )
    if plan.echo:
        raise ConfigError(
            f"{setting_name('echo')} and {setting_name('in_batches')} cannot be used together: leave out one of them"
        )
    if plan.settings.validate == SCHEMA_IN_JOB:
        raise ConfigError(
            f"{setting_name('validate', 'job')} and {setting_name('in_batches')} cannot be used together: name a "
            "file with one schema"
        )


def _check_detach(plan: Plan) -> None:
    for name in ("stream_after", "until"):
        if plan.detach and getattr(plan, name) is not None:
            raise ConfigError(
                f"{setting_name('detach')} ends the run before the time of {setting_name(name)}: give one of them"
            )
    if plan.detach and plan.simulate:
        raise ConfigError(
            f"{setting_name('detach')} leaves the batches to the provider, and {setting_name('simulate')} ends "
            "it: leave it out"
        )


async def run_batch(
    plan: Plan, accesses: Sequence[EndpointAccess], listeners: Sequence[Listener], *, stop_on_signals: bool
) -> BatchOutcome:
    """Run the plan. Raises ConfigError before anything is sent."""
    preset, accesses = batch_preset(plan.settings, accesses), batch_accesses(accesses)
    assert preset is not None, "the plan has been checked"
    async with AsyncExitStack() as stack:
        job_files = open_job_files(plan, accesses)
        stack.callback(job_files.close)
        checks = await open_checks(plan, stack)
        stats = RunStats()
        stats.in_batches = True
        progress = open_progress(plan, accesses, stats)
        emit = run_reporter.open_listeners(plan, accesses, stats, progress, listeners, stack)
        target = await factory.open_target(plan, accesses, stack)
        target = target if accesses else simulated_target(target, preset)
        client = await stack.enter_async_context(_http_client(plan, accesses, target))
        sink = open_results_file(plan, factory.run_target(plan, accesses, checks.schema_digest))
        stack.push_async_exit(sink)
        log = open_log(plan, target)
        prices = price_list(plan, accesses, emit, own_transport=False)
        stack.push_async_callback(prices.close)
        counter = TokenCounter(plan.settings.encoding, asyncio.to_thread)
        budget = _budget(plan, preset, sink, log, prices, counter, target, emit)
        dependencies = BatchDependencies(
            read_jobs=lambda: unfinished_jobs(plan, job_files, sink),
            read_again=partial(aiter, job_files),
            source_name=plan.jobs_name,
            sink=sink,
            log=log,
            storage=LocalStorage(),
            api=provider_batches(preset, client, target),
            base_url=target.base_url,
            upload_path=upload_path(plan),
            counter=counter,
            prices=prices,
            emit=emit,
            wall_clock=time.time,
            run_in_thread=asyncio.to_thread,
            budget=budget,
            validation=checks.validation,
        )
        run_reporter.report_start(plan, accesses, job_files, sink, emit)
        run_reporter.show_budget(stats, budget)
        run = BatchRun(dependencies, _options(plan, preset))
        if stop_on_signals:
            stack.enter_context(handle_signals(run, stats, progress))
        with progress:
            ended = await run.run()
        outcome = ended.outcome
        emit(RunFinished(at=asyncio.get_running_loop().time(), exit_code=outcome.exit_code, reason=outcome.reason))
    if not ended.stream_rest:
        run_reporter.report_end(plan, stats, outcome, is_below_banner=not progress.has_printed)
    return ended


def _budget(
    plan: Plan,
    preset: BatchPreset,
    sink: ResultsFile,
    log: BatchLog,
    prices: PriceList,
    counter: TokenCounter,
    target: Target,
    emit: Listener,
) -> BatchBudget | None:
    """The budget with what earlier runs have spent. Raises ConfigError where that is not known."""
    gate = open_budget(plan.settings.max_cost_usd, sink, prices, emit)
    if gate is None:
        return None
    if any(batch.worst_pico is None for batch in log.open_batches):
        raise ConfigError(
            f"{setting_name('max_cost_usd')} counts batches as they are submitted, and open ones were not: leave "
            "it out for now"
        )
    if sink.recovered.spent.unpriced:
        raise ConfigError(
            f"requests for {plan.out} broke off at unknown cost: run once with {setting_name('max_cost_usd')} "
            f"without {setting_name('in_batches')}"
        )
    factor = price_factor(plan.settings, preset)
    return BatchBudget(gate.budget, prices, counter, sink, target.base_url, factor)


def provider_batches(preset: BatchPreset, client: ApiClient, target: Target) -> ProviderBatches:
    """The batch API in the shape that the provider has."""
    options = options_without(RequestOptions(), target.refuses)
    return BATCH_APIS[preset.shape](client, options)


def _http_client(plan: Plan, accesses: Sequence[EndpointAccess], target: Target) -> HttpApiClient:
    from processor.http.api_client import HttpApiClient

    return HttpApiClient(factory.transport_settings(plan, accesses), target)


def upload_path(plan: Plan) -> UploadPath:
    """Where the jobs of a batch stand until they are uploaded: beside the results."""
    batches = OutputPaths.of(Path(plan.out)).batches
    return lambda name: batches.with_name(f"{batches.name}.{name}.upload")


def _options(plan: Plan, preset: BatchPreset) -> BatchOptions:
    settings = plan.settings
    batch = settings.batch
    return BatchOptions(
        run=replace(factory.run_options(plan), stream=False),
        limits=BatchLimits(
            jobs=min(batch.max_jobs or preset.max_jobs, preset.max_jobs),
            bytes=preset.max_bytes,
            inputs=preset.max_inputs,
        ),
        paths=preset.paths,
        detach=plan.detach,
        stream_at=plan.stream_after,
        end_at=plan.until,
        enqueued_tokens=batch.enqueued_tokens,
        max_submissions=batch.max_submissions,
        poll_min_s=SIMULATED_POLL_S if plan.simulate else batch.poll_min_s,
        poll_max_s=SIMULATED_POLL_S if plan.simulate else batch.poll_max_s,
        max_outage_s=settings.waiting.max_outage_s,
        keep_remote_files=batch.keep_remote_files,
        price_factor=price_factor(settings, preset),
        output=plan.out,
        connection_flags=connection_flags(plan.command),
    )


def without_batch(plan: Plan) -> Plan:
    """The plan of the run that streams what is left."""
    return replace(plan, in_batches=False, detach=False, stream_after=None)
