"""Opens the budget of a run, and checks before its first request that the prices of its jobs are known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from processor.app.factory import run_options
from processor.app.job_source import planned_lines
from processor.app.plan import Plan
from processor.core.errors import ConfigError
from processor.core.events import Listener, Notice
from processor.core.job_keys import job_key
from processor.core.models import Job
from processor.core.money import in_dollars, pico_usd
from processor.core.text import setting_name
from processor.cost.budget import NOTICE_SHARE, Budget
from processor.cost.price_list import PriceList
from processor.endpoints.budget_gate import BudgetGate
from processor.endpoints.pool import EndpointPool
from processor.input.job_file import InvalidLine
from processor.input.job_files import JobFiles
from processor.output.job_index import JobStatus
from processor.output.sink import Sink
from processor.protocols import protocol_for
from processor.protocols.token_bounds import TokenRatios, with_bounds
from processor.scheduler import Dependencies
from processor.scheduler.selection import classify, skip_reason
from processor.terminal.formatting import plural
from processor.tokens.counter import TokenCounter

MAX_NAMED_MODELS = 3


def open_budget(max_cost_usd: float | None, sink: Sink, prices: PriceList, emit: Listener) -> BudgetGate | None:
    """Return the budget with what earlier runs have spent; None where the run has none."""
    if max_cost_usd is None:
        return None

    def report(budget: Budget) -> None:
        spent, limit = in_dollars(budget.spent_pico, budget.limit_pico)
        text = (
            f"{NOTICE_SHARE:.0%} of the budget is spent: {spent} of {limit} USD; the run stops at the first job that "
            "does not fit"
        )
        emit(Notice(at=asyncio.get_running_loop().time(), text=text))

    return BudgetGate(Budget(pico_usd(max_cost_usd), sink.recovered.spent.pico, report), prices)


async def check_prices(plan: Plan, dependencies: Dependencies, job_files: JobFiles | None) -> list[str]:
    """Read the job files once, and look up the prices of all jobs to send. Return the notices for the user.

    Also counts the requests that a run without a budget left in flight. Raises ConfigError where no endpoint has a
    price for the model of a job. Jobs from stdin are known only when they are read, and those of a session (None) only
    when they come: there, for that of the settings.
    """
    sink, endpoints, counter = dependencies.sink, dependencies.endpoints, dependencies.counter
    gate = endpoints.budget
    assert gate is not None, "only a run with a budget needs prices"
    broken_off_pico = 0
    models: dict[str, Job] = {}
    unpriced = set(sink.recovered.spent.unpriced)
    for job in _jobs_to_send(plan, job_files, sink):
        models.setdefault(job.model, job)
        if (key := job_key(job.custom_id)) in unpriced:
            unpriced.discard(key)
            await counter.load(job.model)
            broken_off_pico += await _worst_pico(gate, endpoints, job, counter)
    sink.add_spent(broken_off_pico)
    gate.budget.spent_pico += broken_off_pico
    notices = [*await _price_notices(endpoints, models), *_record_notices(sink)]
    if unpriced:
        requests = plural(len(unpriced), "request")
        notices.append(f"{requests} of jobs that are not in the job file broke off at unknown cost, and do not count")
    return notices


def _jobs_to_send(plan: Plan, job_files: JobFiles | None, sink: Sink) -> Iterator[Job]:
    index, options = sink.job_index, run_options(plan)
    if job_files is None or job_files.size is None:
        if plan.settings.model is not None:
            yield Job(line=0, custom_id="", fingerprint="", path="", model=plan.settings.model, body={})
        return
    for line in planned_lines(plan, job_files):
        if not isinstance(line, InvalidLine):
            custom_id, status = classify(line, index, options)
            if status is not JobStatus.DUPLICATE and skip_reason(status, options) is None:
                yield line.with_id(custom_id)
    index.forget_seen()


async def _price_notices(endpoints: EndpointPool, models: dict[str, Job]) -> list[str]:
    unknown: dict[str, list[str]] = {}
    priced: set[str] = set()
    for endpoint in endpoints:
        for model, job in models.items():
            if not endpoint.answers(model):
                continue
            await endpoints.load_prices(job)
            if endpoints.budget is not None and endpoints.budget.has_price(endpoint, job):
                priced.add(model)
            else:
                unknown.setdefault(endpoint.name, []).append(model)
    if missing := [model for model in models if model not in priced]:
        raise ConfigError(_no_price(missing, list(unknown)))
    return [
        f"{name} takes no part in this run for {_named(found)}: no price is known there, and "
        f"{setting_name('max_cost_usd')} needs one"
        for name, found in unknown.items()
    ]


def _no_price(models: list[str], endpoints: list[str]) -> str:
    tables = ", ".join(f'[prices."{model}"]' for model in models[:MAX_NAMED_MODELS])
    return (
        f"{setting_name('max_cost_usd')} needs the price of every model, and none is known for "
        f"{_named(models)} at {', '.join(endpoints)}: "
        f"set input and output (USD for a million tokens) under {tables} in the settings file"
    )


def _named(models: list[str]) -> str:
    more = f" and {len(models) - MAX_NAMED_MODELS} more" if len(models) > MAX_NAMED_MODELS else ""
    return ", ".join(repr(model) for model in models[:MAX_NAMED_MODELS]) + more


def _record_notices(sink: Sink) -> Iterator[str]:
    spent = sink.recovered.spent
    if spent.is_record_lost:
        yield "the state file is gone: the budget counts what the rows have cost, and no requests that broke off"
    if spent.unknown_rows:
        yield f"{plural(spent.unknown_rows, 'reply', 'replies')} of earlier runs have no cost, and do not count"


async def _worst_pico(gate: BudgetGate, endpoints: EndpointPool, job: Job, counter: TokenCounter) -> int:
    """Return the most that a request for a job can have cost at any endpoint."""
    await endpoints.load_prices(job)
    protocol, model_counter = protocol_for(job.path), counter.for_model(job.model)
    size = with_bounds(protocol.request_size(job, model_counter), job, protocol, model_counter, TokenRatios())
    answering = (one for one in endpoints if one.answers(job.model))
    return max((gate.worst_pico(one, job, size) or 0 for one in answering), default=0)
