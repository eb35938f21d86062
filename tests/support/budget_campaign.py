"""Runs with a budget, made from a seed: jobs of all sizes, a provider with faults, kills, stops and resumes.

What was spent is what the provider has billed, and not what the program says.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

from processor.core.events import Transport
from processor.core.models import JSON, Timeouts
from processor.core.money import PICO, pico_usd
from processor.core.token_bounds import TokenBounds
from processor.cost.price_list import PriceList
from processor.cost.tariff import Rate, Rates, Tariff, TariffPeriod
from processor.cost.worst_case import worst_case_pico
from processor.ratelimit.settings import LimitSettings
from processor.retry.policy import RetryPolicy
from processor.scheduler import RunOptions, Scheduler
from processor.simulator.fault_injecting_storage import FaultPlan, Killed, StorageFault
from processor.simulator.faults import FAILURES, QUIRKS, Faults
from processor.simulator.settings import SimulatorSettings
from tests.support.scheduler_world import OnStart, RunRecord, World, kill_at, short_job

INPUT_USD, OUTPUT_USD = Decimal("0.1"), Decimal(10)
MODEL = "m"


def tariff() -> Tariff:
    """The provider bills no cached tokens: a request whose prompt may be written to a cache is held to cost more."""
    rates = Rates(input=Rate(usd=INPUT_USD), output=Rate(usd=OUTPUT_USD), cache_write=Rate(usd=INPUT_USD * 2))
    return Tariff(periods=(TariffPeriod(rates=rates),), max_output_tokens=500)


@dataclass
class BudgetCampaign:
    """One seed. ``play`` raises AssertionError where the budget is exceeded, or where too much of it is left."""

    seed: int
    said: list[str] = field(default_factory=list)
    runs: int = 0
    kills: int = 0
    stopped_by_budget: bool = False

    def play(self) -> BudgetCampaign:
        random.seed(self.seed)  # tenacity draws from the global generator
        rng = Random(f"budget {self.seed}")
        jobs = [_job(rng, number) for number in range(rng.randint(3, 30))]
        self._jobs = jobs
        self._world = World(_provider(rng, self.seed))
        worst_usd = sum(self._worst_pico(job) for job in jobs) / PICO
        budget_usd = worst_usd * rng.choice((0.05, 0.3, 0.7, 0.95, 1.5)) * rng.uniform(0.8, 1.0)
        for _ in range(rng.randint(0, 4)):
            name, on_start, fault_plan = rng.choice((_killed, _killed_at_step, _killed_at_step, _stopped))(rng)
            self._run(rng, budget_usd, name, on_start, fault_plan)
        for _ in range(12):  # until nothing more is sent
            run = self._run(rng, budget_usd, "undisturbed")
            if not run.sent:
                break
        self.stopped_by_budget = "budget" in (run.reason or "")
        if self.stopped_by_budget:
            self._check_what_is_left(run)
        return self

    def _run(
        self,
        rng: Random,
        budget_usd: float,
        name: str,
        on_start: OnStart = lambda run: None,
        fault_plan: FaultPlan | None = None,
    ) -> RunRecord:
        run = self._world.run(
            self._jobs,
            options=RunOptions(grace_s=rng.choice((0.0, 1.0, 30.0)), look_ahead=rng.choice((3, 256))),
            policy=RetryPolicy(max_attempts=rng.choice((1, 3, 6))),
            concurrency=rng.choice((1, 2, 4, 8)),
            limits=LimitSettings(concurrency_is_fixed=rng.random() < 0.8),
            timeouts=Timeouts(first_byte_timeout_s=60.0, stall_timeout_s=20.0, request_timeout_s=300.0),
            on_start=on_start,
            fault_plan=fault_plan,
            prices=PriceList({MODEL: tariff()}),
            max_cost_usd=budget_usd,
            wrap_transport=self._wrap_transport(),
        )
        self.runs += 1
        self.kills += run.exit_code is None
        billed = self.billed_pico()
        self.said.append(
            f"{name}: exit {run.exit_code} ({run.reason}), {len(run.sent)} sent, {billed / PICO:.8f} of "
            f"{budget_usd:.8f} USD billed"
        )
        assert billed <= pico_usd(budget_usd), "the budget is exceeded"
        if run.budget is not None and run.exit_code is not None:
            assert billed <= run.budget.budget.spent_pico + run.budget.budget.reserved_pico, "something is not counted"
        return run

    def _wrap_transport(self) -> Callable[[Transport], Transport]:
        """What is put between the scheduler and the provider."""
        return lambda transport: transport

    def billed_pico(self) -> int:
        billing = self._world.provider.billing
        return int((billing.prompt_tokens * INPUT_USD + billing.completion_tokens * OUTPUT_USD) * (PICO // 10**6))

    def _check_what_is_left(self, run: RunRecord) -> None:
        """What is left, less what is reserved for requests that broke off, is less than a job may cost."""
        assert run.exit_code == 3
        assert run.budget is not None
        line = int((run.reason or "").partition("in line ")[2].partition(",")[0])
        assert run.budget.budget.left_pico < self._worst_pico(self._jobs[line - 1]), "the next job would have fit"

    def _worst_pico(self, job: JSON) -> int:
        # At least one token for each byte of the prompt's text, at the rate of writes to the cache.
        bounds = TokenBounds(
            prompt_tokens=len(job["prompt"].encode()) + 100,
            output_tokens=job.get("max_tokens"),
            choices=job.get("n", 1),
        )
        worst_pico = worst_case_pico(tariff(), bounds)
        assert worst_pico is not None
        return worst_pico


def _job(rng: Random, number: int) -> JSON:
    more: JSON = {}
    if rng.random() < 0.8:
        more["max_tokens"] = rng.choice((5, 20, 100))
    if rng.random() < 0.2:
        more["n"] = 2
    words = rng.choice(("word ", "déjà ", "日本語", "🙂"))
    return {**short_job(number), "prompt": f"{number} " + words * rng.randint(1, 60), **more}


def _provider(rng: Random, seed: int) -> SimulatorSettings:
    rates: dict[str, float] = {}
    for name in rng.sample(FAILURES, rng.randint(0, 4)):
        rates[name] = rng.choice((0.02, 0.05, 0.2))
    for name in rng.sample(QUIRKS, rng.randint(0, 3)):
        rates[name] = rng.choice((0.1, 0.5))
    return SimulatorSettings(
        seed=seed,
        write_batch_s=1.0,
        reply_tokens=rng.choice(((2, 120), (150, 400))),
        first_token_s=rng.choice((0.1, 0.5, 3.0)),
        speed_tps=rng.choice((80.0, 10.0)),
        faults=Faults(rates),
        rpm=rng.choice((None, 60)),
    )


Disturbance = tuple[str, OnStart, FaultPlan | None]


def _killed(rng: Random) -> Disturbance:
    at = 10 ** rng.uniform(-1.0, 1.0)
    return f"killed at {at:.3f} s", kill_at(at), None


def _killed_at_step(rng: Random) -> Disturbance:
    step, part = rng.randint(8, 70), rng.random()

    def plan(number: int, operation: str) -> StorageFault | None:
        return StorageFault(Killed(), part if operation == "write" else round(part)) if number == step else None

    return f"killed at step {step}", lambda run: None, plan


def _stopped(rng: Random) -> Disturbance:
    at = 10 ** rng.uniform(-1.0, 1.0)

    def on_start(run: Scheduler) -> None:
        asyncio.get_running_loop().call_at(at, lambda: run.stop("interrupted", exit_code=130))

    return f"stopped at {at:.3f} s", on_start, None


def play(seed: int, kind: type[BudgetCampaign] = BudgetCampaign) -> BudgetCampaign:
    campaign = kind(seed)
    try:
        return campaign.play()
    except BaseException as error:
        error.add_note("\n".join((f"seed {seed}", *campaign.said)))
        raise
