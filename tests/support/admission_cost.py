"""What admission costs a job, by the number of limit groups, endpoints and waiting jobs, on the virtual clock.

The jobs of all groups wait at the same time: for the limits of their models, for the slots of the run, or for what is
left of its budget.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from time import process_time
from typing import Literal, NamedTuple

from processor.core.events import RunEvent
from processor.core.models import Job, RequestSize, Target, Usage
from processor.core.token_bounds import TokenBounds
from processor.cost.budget import Budget
from processor.cost.price_list import PriceList
from processor.endpoints.budget_gate import BudgetGate
from processor.endpoints.dispatcher import Dispatcher
from processor.endpoints.endpoint import Endpoint
from processor.endpoints.pool import EndpointPool
from processor.health.endpoint_health import EndpointHealth
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.retry.policy import RetryPolicy
from processor.simulator.virtual_clock import run
from tests.support.byte_codes import ByteCodeCounter
from tests.support.tariffs import a_million_tokens_cost

Bound = Literal["limits", "slots", "budget"]
"""What the jobs wait for."""

PATH = "/v1/chat/completions"
PER_MINUTE = 60_000
"""What the limits of all groups grant together."""
SLOTS = 10
LATENCY_S = 0.5
UNLIMITED = RateLimits(rpm=1e12)
BOUNDS = TokenBounds(prompt_tokens=1_000, output_tokens=1_000)
WORST_PICO = 1_000_000_000
"""The most that a job costs."""


class AdmissionCost(NamedTuple):
    """Of one job: byte codes executed in ``processor/``, and microseconds of CPU."""

    byte_codes: float
    cpu_us: float


def pool(groups: int, endpoints: int, bound: Bound, *, dispatched: bool, has_budget: bool) -> EndpointPool:
    """``dispatched``: jobs wait in the queues of the dispatcher, as in runs with several endpoints or a budget.
    ``has_budget``: one that suffices for ``SLOTS`` requests in flight where it is what the jobs wait for."""
    limits = RateLimits(rpm=PER_MINUTE / groups) if bound == "limits" else UNLIMITED
    settings = LimitSettings(per_model={f"m{at}": limits for at in range(groups)}, concurrency_is_fixed=True)
    events: list[RunEvent] = []
    concurrency = SLOTS if bound == "slots" else 1_000_000
    made = []
    for at in range(endpoints):
        health = EndpointHealth(RetryPolicy(), events.append, endpoint=f"e{at}", max_outage_s=3600.0)
        health.on_success(0, 0.0, 0.0)
        limiter = RateLimiter(settings, emit=events.append, concurrency=concurrency, name=f"e{at}")
        made.append(Endpoint(Target(base_url=f"http://127.0.0.1:{at + 1}/v1"), limiter, health, name=f"e{at}"))
    if not dispatched:
        return EndpointPool(*made)
    of_run = RateLimiter(LimitSettings(default=UNLIMITED), emit=events.append, concurrency=concurrency)
    budget = None
    if has_budget:
        limit_pico = WORST_PICO * (SLOTS if bound == "budget" else 1_000_000)
        budget = BudgetGate(Budget(limit_pico), PriceList(default=a_million_tokens_cost(1)))
    dispatcher = Dispatcher(made, of_run, in_order=False, emit=events.append, budget=budget)
    return EndpointPool(*made, dispatcher=dispatcher, budget=budget)


async def _send(endpoints: EndpointPool, number: int, groups: int) -> None:
    model = f"m{number % groups}"
    job = Job(line=number, custom_id=str(number), fingerprint="", path=PATH, model=model, body={"model": model})
    size = RequestSize(path=PATH, model=model, prompt_tokens=0, prompt_chars=0, max_tokens=1, bounds=BOUNDS)
    await endpoints.load_prices(job)
    permit = await endpoints.acquire(job, size, is_retry=False)
    loop = asyncio.get_running_loop()
    permit.sent(loop.time())
    await asyncio.sleep(LATENCY_S)
    permit.responded(200, {}, loop.time())
    permit.settled(Usage(prompt_tokens=0, completion_tokens=1), loop.time())
    if permit.reserved is not None:
        permit.reserved.settle(0)
    permit.release()


def admission_cost(
    jobs: int,
    *,
    groups: int = 1,
    endpoints: int = 1,
    bound: Bound,
    dispatched: bool = False,
    has_budget: bool = False,
    trace: bool = False,
) -> AdmissionCost:
    """Admit so many jobs that all wait from the start. ``trace``: count byte codes, which slows all down."""
    counter = ByteCodeCounter()

    async def main() -> float:
        used = pool(groups, endpoints, bound, dispatched=dispatched, has_budget=has_budget)
        tasks = [asyncio.create_task(_send(used, number, groups)) for number in range(jobs)]
        began = process_time()
        with counter if trace else nullcontext():
            await asyncio.gather(*tasks)
        return process_time() - began

    cpu_s = run(main())
    return AdmissionCost(counter.count / jobs, 1e6 * cpu_s / jobs)
