"""Opens what a run and a session have in common: what sends the requests, the output, prices, budget and endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from processor.app import factory
from processor.app.budget import open_budget
from processor.app.cluster import WorkersShown
from processor.app.endpoint_factory import endpoint_pool
from processor.app.outputs import open_sink
from processor.app.plan import Plan, refuse_open_batches
from processor.app.prices import price_list
from processor.app.validation import OutputChecks
from processor.config.endpoint_resolution import EndpointAccess
from processor.core.events import Listener, Transport
from processor.core.fast_dataclass import dataclass
from processor.cost.price_list import PriceList
from processor.endpoints.budget_gate import BudgetGate
from processor.endpoints.pool import EndpointPool
from processor.output.index_entry import RunTarget
from processor.output.sink import Sink

if TYPE_CHECKING:
    from processor.app.pool_with_limiter import MakeLimiter


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParts:
    """What requests are sent with, and where their rows go."""

    send: Transport
    workers: WorkersShown | None
    """None where the run sends its requests itself."""
    concurrency: int
    sink: Sink
    prices: PriceList
    budget: BudgetGate | None
    endpoints: EndpointPool


async def open_run_parts(
    plan: Plan,
    accesses: Sequence[EndpointAccess],
    transport: Transport | None,
    emit: Listener,
    checks: OutputChecks,
    stack: AsyncExitStack,
    *,
    max_connections: int,
    open_output: Callable[[RunTarget], Awaitable[Sink]] | None = None,
    make_limiter: MakeLimiter | None = None,
) -> RunParts:
    """Open the parts, which ``stack`` closes. ``open_output``: opens what takes the rows in place of the plan's output.
    ``make_limiter``: makes the limiter of the one endpoint, in place of one of this process.

    Raises ConfigError. Nothing is written where the transport finds that nothing can be sent.
    """
    opened = factory.open_transport(plan, accesses, transport, emit)
    targets, send, workers = await stack.enter_async_context(opened)
    concurrency = factory.concurrency(plan, max_connections, workers)
    run_target = factory.run_target(plan, accesses, checks.schema_digest)
    if open_output is None:
        sink = await open_sink(plan, run_target, emit, stack)
        refuse_open_batches(plan)
    else:
        sink = await open_output(run_target)
        stack.push_async_exit(sink)
    prices = price_list(plan, accesses, emit, own_transport=transport is not None)
    stack.push_async_callback(prices.close)
    budget = open_budget(plan.settings.max_cost_usd, sink, prices, emit)
    if make_limiter is None:
        endpoints = endpoint_pool(plan, accesses, targets, emit, concurrency=concurrency, budget=budget)
    else:
        from processor.app.pool_with_limiter import pool_with_limiter

        endpoints = pool_with_limiter(
            plan, accesses, targets, emit, make_limiter, concurrency=concurrency, budget=budget, prices=prices
        )
    return RunParts(
        send=send,
        workers=workers,
        concurrency=concurrency,
        sink=sink,
        prices=prices,
        budget=budget,
        endpoints=endpoints,
    )
