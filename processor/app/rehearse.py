"""``process rehearse``: a whole run on a virtual clock, against the simulated provider in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from processor.app import factory
from processor.app.budget import check_prices, open_budget
from processor.app.deadline import open_deadline
from processor.app.endpoint_factory import endpoint_pool
from processor.app.estimate import known_replies, load_index
from processor.app.job_source import count_planned_lines, open_job_files, planned_lines
from processor.app.known_tariffs import KnownTariffs
from processor.app.outputs import with_local_out
from processor.app.plan import Plan, check_names
from processor.app.rehearsed_provider import RehearsalOptions, RehearsedLimits, RehearsedProvider
from processor.app.run import relaxed_gc
from processor.config.endpoint_resolution import EndpointAccess, resolve_endpoints
from processor.core.errors import ConfigError
from processor.core.events import JobFinished, Listener, RequestListener, RunEvent, RunFinished, RunStarted, Transport
from processor.core.fast_dataclass import dataclass
from processor.core.models import Job, Reply, Target, Usage
from processor.cost.price_list import PriceList
from processor.estimate.known_replies import KnownReplies
from processor.input.job_file import InvalidLine
from processor.listeners.fan_out import FanOut
from processor.output.discarding_sink import DiscardingSink
from processor.output.paths import OutputPaths
from processor.output.sink import RecoveredState
from processor.protocols import protocol_for
from processor.remote.addresses import scheme_of, shown_address
from processor.scheduler import Outcome, Scheduler
from processor.simulator import virtual_clock
from processor.stats.run_stats import RunStats
from processor.tokens.counter import TokenCounter

OnProgress = Callable[[int, int], None]
"""Called with the jobs played so far, and with all."""

MAX_CONNECTIONS = 1000
JOBS_PER_PICTURE = 100
"""Jobs played between two calls of ``OnProgress``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """How the run went."""

    stats: RunStats
    outcome: Outcome
    seconds: float
    """On the virtual clock."""
    took_s: float
    replies: KnownReplies
    models: Collection[str]
    """Of all jobs."""
    limits: Mapping[str, RehearsedLimits]
    """Of the simulated provider, by limit group."""
    generated_tokens: int
    """Of all replies that the provider has generated, also of those that broke off."""

    @property
    def prompt_tokens(self) -> int:
        """Of all jobs with a reply, as counted here: the simulated provider only estimates them."""
        return self.stats.replies.computed.prompt

    @property
    def completion_tokens(self) -> int:
        return self.stats.replies.used.completion


def rehearse(
    plan: Plan, environ: Mapping[str, str], options: RehearsalOptions, on_progress: OnProgress = lambda done, jobs: None
) -> Rehearsal:
    """Raises ConfigError. Sends nothing and writes nothing."""
    plan = with_local_out(plan)
    check_names(plan)
    if remote := next((path for path in plan.job_files if scheme_of(path)), None):
        raise ConfigError(f"rehearse reads files of this machine only: download {shown_address(remote)} first")
    accesses = resolve_endpoints(plan.settings, environ, needs_key=False)
    replies = known_replies(plan, plan.like)
    counter = TokenCounter(plan.settings.encoding, virtual_clock.inline)
    provider = RehearsedProvider(plan, accesses[0], replies, options, counter)
    tariffs = KnownTariffs(plan, accesses)
    models = _models(plan, accesses)
    tariffs.load(models)
    began = time.monotonic()
    with relaxed_gc():
        stats, outcome, seconds = virtual_clock.run(
            _run(plan, accesses, provider, counter, tariffs.prices, on_progress)
        )
    return Rehearsal(
        stats=stats,
        outcome=outcome,
        seconds=seconds,
        took_s=time.monotonic() - began,
        replies=replies,
        models=sorted(models),
        limits=provider.limits,
        generated_tokens=provider.generated_tokens,
    )


def _models(plan: Plan, accesses: Sequence[EndpointAccess]) -> set[str]:
    """The models of all jobs, whose prices cannot be looked up on the virtual clock."""
    with closing(open_job_files(plan, accesses)) as job_files:
        if not job_files.can_be_read_again:
            raise ConfigError("rehearse reads the jobs twice: save them to a file")
        lines = planned_lines(plan, job_files)
        return {line.model for line in lines if not isinstance(line, InvalidLine)}


def _progress_listener(on_progress: OnProgress) -> Listener:
    jobs = done = 0

    def listen(event: RunEvent) -> None:
        nonlocal jobs, done
        if isinstance(event, RunStarted):
            jobs = event.jobs or 0
        elif isinstance(event, JobFinished):
            done += 1
            if done % JOBS_PER_PICTURE == 0:
                on_progress(done, jobs)

    return listen


def _counting_prompts(send: Transport, counter: TokenCounter) -> Transport:
    """A transport whose replies report the tokens of prompts as a run counts them: the simulated provider estimates
    them by their characters."""

    async def counting(job: Job, target: Target, on_event: RequestListener) -> Reply:
        reply = await send(job, target, on_event)
        protocol = protocol_for(job.path)
        reported = protocol.reported_usage(reply.body)
        if reported is None or not counter.is_loaded(job.model):
            return reply
        prompt = protocol.count_prompt(job.body, counter.for_model(job.model)).tokens
        fields = protocol.usage_json(Usage(prompt_tokens=prompt, completion_tokens=reported.completion_tokens))
        return replace(reply, body={**reply.body, "usage": {**reply.body["usage"], **(fields or {})}})

    return counting


async def _run(
    plan: Plan,
    accesses: Sequence[EndpointAccess],
    provider: RehearsedProvider,
    counter: TokenCounter,
    prices: PriceList,
    on_progress: OnProgress,
) -> tuple[RunStats, Outcome, float]:
    loop = asyncio.get_running_loop()
    index, spent = load_index(plan, accesses, OutputPaths.of(Path(plan.out)))
    sink = DiscardingSink(index, RecoveredState(spent=spent))
    stats = RunStats()
    emit = FanOut([stats, _progress_listener(on_progress)]).emit
    with closing(open_job_files(plan, accesses)) as job_files:
        concurrency = factory.concurrency(plan, MAX_CONNECTIONS)
        targets = [access.target for access in accesses]
        budget = open_budget(plan.settings.max_cost_usd, sink, prices, emit)
        endpoints = endpoint_pool(plan, accesses, targets, emit, concurrency=concurrency, budget=budget)
        send = _counting_prompts(provider, counter)
        started_at = time.time()

        def wall_clock() -> float:
            return started_at + loop.time()

        dependencies = replace(
            factory.dependencies(plan, job_files, sink, send, endpoints, emit, prices),
            counter=counter,
            wall_clock=wall_clock,
            deadline=open_deadline(plan, stats, wall_clock),
        )
        if budget is not None:
            stats.budget = budget.budget.in_usd
            await check_prices(plan, dependencies, job_files)
        emit(RunStarted(at=loop.time(), jobs=count_planned_lines(plan, job_files), done=0, simulated=True))
        outcome = await Scheduler(dependencies, factory.run_options(plan)).run()
        emit(RunFinished(at=loop.time(), exit_code=outcome.exit_code, reason=outcome.reason))
    return stats, outcome, stats.elapsed_s(stats.last_event_at)
