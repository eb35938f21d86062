"""``--max-cost`` with batches: a whole batch is reserved before it is submitted."""

from __future__ import annotations

from decimal import Decimal

import pytest

from processor.batch.sizes import BatchLimits
from processor.core import exit_codes
from processor.cost.tariff import Rate, Rates, Tariff, TariffPeriod
from tests.support.batch_world import BatchWorld
from tests.support.scheduler_world import short_job

TARIFF = Tariff(
    periods=(TariffPeriod(rates=Rates(input=Rate(usd=Decimal(0)), output=Rate(usd=Decimal(1_000_000)))),),
)
"""One US dollar for each token of a reply."""
JOBS = [short_job(number, max_tokens=10) for number in range(20)]
SMALL = BatchLimits(jobs=8, bytes=1_000_000)
COST = 1.0
"""Of a reply of the simulated provider: one token."""


def world_with_prices(**batches: object) -> BatchWorld:
    return BatchWorld(tariff=TARIFF, **batches)  # type: ignore[arg-type]


def spent(world: BatchWorld) -> float:
    return sum(row["cost_usd"] or 0 for row in [*world.rows(), *world.failures()])


def test_budget_that_suffices_changes_nothing() -> None:
    world = world_with_prices()
    run = world.run_batch(JOBS, limits=SMALL, max_cost_usd=200.0, price_factor=1.0)
    assert run.exit_code == exit_codes.COMPLETE
    assert len(world.provider.batch_api.batches) == 3
    assert spent(world) == pytest.approx(20 * COST)


def test_jobs_wait_until_batches_have_cost_less_than_they_might() -> None:
    world = world_with_prices()
    run = world.run_batch(JOBS, limits=SMALL, max_cost_usd=100.0, price_factor=1.0)
    assert run.exit_code == exit_codes.COMPLETE
    assert run.took_s > 200, "ten jobs may cost all of it: the others wait"
    assert spent(world) == pytest.approx(20 * COST)


def test_run_ends_where_the_budget_does_not_suffice_and_goes_on_with_a_larger_one() -> None:
    world = world_with_prices()
    run = world.run_batch(JOBS, limits=SMALL, max_cost_usd=15.0, price_factor=1.0)
    assert run.exit_code == exit_codes.STOPPED
    assert run.reason is not None
    assert run.reason.startswith("the budget of 15")
    assert "to go on, run again with a larger --max-cost" in run.reason
    assert spent(world) <= 15.0
    assert len(world.rows()) == 6, "the next job may cost 10 USD, and 9 are left"
    assert world.failures() == []
    assert world.run_batch(JOBS, limits=SMALL, max_cost_usd=50.0, price_factor=1.0).exit_code == exit_codes.COMPLETE
    assert world.executed_more_than_once() == []


def test_factor_of_batches_makes_more_fit() -> None:
    world = world_with_prices()
    run = world.run_batch(JOBS, limits=SMALL, max_cost_usd=15.0, price_factor=0.5)
    assert run.exit_code == exit_codes.COMPLETE
    assert spent(world) == pytest.approx(10 * COST)


def test_detached_run_leaves_what_does_not_fit_for_later() -> None:
    world = world_with_prices()
    run = world.run_batch(JOBS, max_cost_usd=100.0, price_factor=1.0, detach=True)
    assert run.exit_code == exit_codes.STOPPED
    assert "1 batch is with the provider, 10 jobs wait for room" in (run.reason or "")
    again = world.run_batch(JOBS, max_cost_usd=100.0, price_factor=1.0, detach=True)
    assert len(world.provider.batch_api.batches) == 1, "the open batch is reserved"
    assert again.exit_code == exit_codes.STOPPED


def test_missing_result_counts_at_its_worst_case_in_later_runs_too() -> None:
    world = world_with_prices(rates={"batch_missing": 1.0})
    run = world.run_batch(JOBS[:1], max_cost_usd=25.0, price_factor=1.0)
    assert run.exit_code == exit_codes.STOPPED
    assert len(world.provider.batch_api.batches) == 2
    again = world.run_batch(JOBS[:1], max_cost_usd=25.0, price_factor=1.0)
    assert "20.00 USD are spent" in (again.reason or "")
    assert len(world.provider.batch_api.batches) == 2


def test_job_without_a_bound_is_not_sent() -> None:
    world = world_with_prices()
    run = world.run_batch([*JOBS[:2], short_job(7)], max_cost_usd=200.0, price_factor=1.0)
    assert run.exit_code == exit_codes.INCOMPLETE
    (failure,) = world.failures()
    assert (failure["custom_id"], failure["error"]["code"]) == ("job-7", "unknown_cost")


def test_unknown_price_is_exit_2_before_anything_is_sent() -> None:
    world = BatchWorld()
    run = world.run_batch(JOBS, max_cost_usd=200.0)
    assert run.exit_code == exit_codes.NOTHING_SENT
    assert "--max-cost needs the price of every model" in (run.reason or "")
    assert world.provider.batch_api.batches == {}
