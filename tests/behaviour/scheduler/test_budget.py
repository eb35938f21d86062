"""A budget that holds under concurrency, faults, kills and resumes, as the provider bills."""

from __future__ import annotations

from dataclasses import replace

import pytest

from processor.core.events import Notice
from processor.cost.price_list import PriceList
from processor.simulator.faults import Faults
from processor.simulator.settings import SimulatorSettings
from tests.support.budget_campaign import play
from tests.support.scheduler_world import FAST_PROVIDER, World, short_job
from tests.support.several_endpoints import SeveralWorld, table
from tests.support.tariffs import a_million_tokens_cost

PRICES = PriceList({"m": a_million_tokens_cost(10)})
FIXED = SimulatorSettings(first_token_s=1.0, first_token_jitter=0.0, reply_tokens=(40, 40))


def test_jobs_wait_for_the_replies_in_flight_before_the_run_stops() -> None:
    world = World(FIXED)
    # Three worst cases of 0.001 fit at once.
    run = world.run([short_job(i, max_tokens=100) for i in range(10)], prices=PRICES, max_cost_usd=0.003)
    done = len(world.rows())
    assert (run.exit_code, len(run.sent), run.max_in_flight) == (3, done, 3)
    assert 0.002 < sum(row["cost_usd"] for row in world.rows()) <= 0.003
    assert run.reason is not None and f"does not suffice for the job in line {done + 1}," in run.reason
    again = world.run([short_job(i, max_tokens=100) for i in range(10)], prices=PRICES, max_cost_usd=0.003)
    assert (again.exit_code, again.sent) == (3, [])
    rest = world.run([short_job(i, max_tokens=100) for i in range(10)], prices=PRICES, max_cost_usd=0.01)
    assert (rest.exit_code, len(rest.sent)) == (0, 10 - done)


def test_one_notice_when_most_of_the_budget_is_spent() -> None:
    run = World(FIXED).run([short_job(i, max_tokens=2) for i in range(12)], prices=PRICES, max_cost_usd=0.0002)
    (notice,) = run.events_of(Notice)
    assert "80% of the budget is spent" in notice.text
    assert run.exit_code == 3


def test_job_that_would_fit_is_not_sent_after_one_that_did_not() -> None:
    jobs = [short_job(0, max_tokens=40), short_job(1, max_tokens=1000), short_job(2, max_tokens=1)]
    run = World(FIXED).run(jobs, prices=PRICES, max_cost_usd=0.005)
    assert (run.exit_code, [name for _, name, _ in run.sent]) == (3, ["job-0"])


def test_job_whose_cost_nothing_bounds_gets_a_failed_row() -> None:
    world = World(FIXED)
    jobs = [short_job(0, max_tokens=50), short_job(1), short_job(2, max_tokens=50, web_search_options={})]
    jobs += [short_job(3, max_tokens=50, web_search_options={"search_context_size": "low"})]
    jobs += [short_job(4, max_tokens=50, model="unpriced")]
    run = world.run(jobs, prices=PRICES, max_cost_usd=1.0)
    assert (run.exit_code, len(world.rows())) == (1, 2)
    failed = {row["custom_id"]: row["error"] for row in world.failures()}
    assert {error["code"] for error in failed.values()} == {"unknown_cost"}
    assert "max_tokens" in failed["job-1"]["message"]
    assert "web_search_options" in failed["job-3"]["message"]
    assert '[prices."unpriced"]' in failed["job-4"]["message"]


def test_each_endpoint_reserves_at_its_own_price_and_one_without_a_price_takes_no_part() -> None:
    tables = (
        table("dear", models={"m": "dear"}),
        table("cheap", models={"m": "cheap"}),
        table("unknown", models={"m": "unknown"}),
    )
    world = SeveralWorld({"dear": FIXED, "cheap": FIXED, "unknown": FIXED}, endpoints=tables)
    prices = PriceList({"dear": a_million_tokens_cost(1000), "cheap": a_million_tokens_cost(1)})
    run = world.run([short_job(i, max_tokens=100) for i in range(8)], prices=prices, max_cost_usd=0.101)
    assert run.exit_code == 0
    sent_to = [name for _, name, _ in world.sent_to]
    assert set(sent_to) == {"dear", "cheap"}
    # A worst case at the dear endpoint is 0.1: after its first reply, no further one fits there.
    assert sent_to.count("dear") == 1


def test_reply_without_usage_counts_at_its_worst_case() -> None:
    world = World(replace(FIXED, faults=Faults({"no_usage": 1.0})))
    run = world.run([short_job(i, max_tokens=100) for i in range(5)], prices=PRICES, max_cost_usd=0.0035)
    assert (run.exit_code, len(run.sent)) == (3, 3)
    row = world.rows()[0]
    assert 0 < row["cost_usd"] < 0.001
    assert row["cost_usd"] + row["unconfirmed_cost_usd"] == pytest.approx(0.001)


def test_run_without_a_budget_counts_what_broke_off_where_the_price_is_known() -> None:
    world = World(replace(FAST_PROVIDER, faults=Faults({"cut": 0.5})))
    jobs = [short_job(i, max_tokens=100) for i in range(12)]
    run = world.run(jobs, prices=PRICES)
    assert run.exit_code == 0
    unconfirmed = [row.get("unconfirmed_cost_usd", 0.0) for row in world.rows()]
    retries = len(run.sent) - len(jobs)
    assert retries and sum(unconfirmed) == pytest.approx(0.001 * retries)
    rows_usd = sum(row["cost_usd"] for row in world.rows())
    later = world.run(jobs, prices=PRICES, max_cost_usd=1.0)
    assert later.budget is not None
    assert later.budget.budget.spent_pico == pytest.approx((rows_usd + 0.001 * retries) * 1e12)


@pytest.mark.parametrize("seed", range(6))
def test_budget_holds_through_faults_kills_and_resumes(seed: int) -> None:
    play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [range(at, at + 15) for at in range(100, 145, 15)], ids=str)
def test_budget_holds_in_a_campaign_of_runs(seeds: range) -> None:
    for seed in seeds:
        play(seed)


def test_job_that_is_asked_again_reserves_anew_and_its_row_has_the_cost_of_all_replies() -> None:
    world = World(replace(FIXED, reply_tokens=(10, 20)))
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "required": ["x"]}}}
    jobs = [short_job(i, max_tokens=100, response_format=schema) for i in range(3)]
    run = world.run(jobs, prices=PRICES, max_cost_usd=1.0, max_invalid=1)
    assert run.budget is not None
    billed_pico = world.provider.billing.completion_tokens * 10 * 10**6
    rows_pico = sum(round(row["cost_usd"] * 1e12) for row in [*world.rows(), *world.failures()])
    assert rows_pico == billed_pico == run.budget.budget.spent_pico
    later = world.run(jobs, prices=PRICES, max_cost_usd=1.0)
    assert later.budget is not None
    assert later.budget.budget.spent_pico >= billed_pico
    stopped = World(replace(FIXED, reply_tokens=(10, 20)))
    enough_for_one_usd = 0.001 + billed_pico / len(run.sent) / 2e12
    few = stopped.run(jobs[:1], prices=PRICES, max_cost_usd=enough_for_one_usd, max_invalid=3)
    assert (few.exit_code, len(few.sent)) == (3, 1)
    assert few.budget is not None and stopped.rows() == []
    spent = few.budget.budget.spent_pico
    assert spent == stopped.provider.billing.completion_tokens * 10 * 10**6
    again = stopped.run(jobs[:1], prices=PRICES, max_cost_usd=enough_for_one_usd, max_invalid=3)
    assert again.budget is not None
    assert (again.exit_code, again.sent, again.budget.budget.spent_pico) == (3, [], spent)
