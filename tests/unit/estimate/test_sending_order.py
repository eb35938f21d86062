"""How many jobs fit, in the order in which they are sent: classes of sizes against the jobs one by one."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from processor.core.models import Cost
from processor.estimate.group_totals import ChargedRequest, GroupTotals
from processor.estimate.job_costs import BudgetFit, JobCost
from processor.estimate.sending_order import Order, SendingOrder

pytestmark = pytest.mark.sampled

GROUP = "m"
TOKENS_A_SECOND = 100


def sizes_of(number: int, *, seed: int = 0) -> list[int]:
    rng = Random(seed)
    return [round(rng.lognormvariate(6, 1.2)) + 1 for _ in range(number)]


def cost_of(size: int) -> JobCost:
    """Half of the worst case is expected."""
    return JobCost(expected_pico=5 * size, worst_pico=10 * size)


def counted(sizes: list[int], order: Order, budget_pico: int = 0) -> SendingOrder:
    sending = SendingOrder(order, BudgetFit(budget_pico))
    for size in sizes:
        sending.add(size, GROUP, GROUP, ChargedRequest(Cost(tokens=size, input_tokens=size)), cost_of(size))
    sending.close()
    return sending


def in_order(sizes: list[int], order: Order) -> list[int]:
    return sizes if order == "file" else sorted(sizes, reverse=order == "longest")


def seconds_of(groups: Mapping[str, GroupTotals]) -> float:
    return sum(group.tokens for group in groups.values()) / TOKENS_A_SECOND


def fitting(costs: list[JobCost], left_pico: int) -> tuple[int, int]:
    """Jobs that a run sends if each costs what is expected, and if each costs its worst case: one by one."""
    found = []
    for is_worst in (False, True):
        spent = jobs = 0
        for expected, worst in costs:
            assert expected is not None and worst is not None
            if spent + worst > left_pico:
                break
            spent += worst if is_worst else expected
            jobs += 1
        found.append(jobs)
    return found[0], found[1]


@pytest.mark.parametrize("order", ["file", "shortest", "longest"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.3, 0.55, 1.0])
def test_jobs_that_fit_into_a_budget_are_those_of_a_run_in_this_order(order: Order, share: float) -> None:
    sizes = sizes_of(3000)
    left_pico = round(share * sum(10 * size for size in sizes))
    expected, surely = fitting([cost_of(size) for size in in_order(sizes, order)], left_pico)
    budget = counted(sizes, order, left_pico).budget
    assert budget is not None and budget.expected is not None
    assert budget.expected == pytest.approx(expected, rel=0.01, abs=1)
    assert budget.at_least <= surely
    assert budget.at_least == pytest.approx(surely, rel=0.01, abs=1)
    if order == "file":
        assert (budget.expected, budget.at_least) == (expected, surely)


@pytest.mark.parametrize("order", ["shortest", "longest"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9, 1.0, 2.0])
def test_jobs_that_fit_into_a_time_are_those_sent_first(order: Order, share: float) -> None:
    sizes = sizes_of(2000)
    allowed_s = share * sum(sizes) / TOKENS_A_SECOND
    sent = jobs = 0
    for size in in_order(sizes, order):
        sent += size
        if sent > allowed_s * TOKENS_A_SECOND:
            break
        jobs += 1
    assert counted(sizes, order).jobs_within(allowed_s, {}, seconds_of) == pytest.approx(jobs, rel=0.01, abs=1)


def test_jobs_in_the_order_of_the_file_are_alike() -> None:
    sizes = sizes_of(1000)
    groups = {GROUP: GroupTotals(GROUP)}
    for size in sizes:
        groups[GROUP].add(ChargedRequest(Cost(tokens=size, input_tokens=size)))
    assert counted(sizes, "file").jobs_within(0.25 * seconds_of(groups), groups, seconds_of) == 250
    assert counted(sizes, "file").jobs_within(1.0, groups, lambda groups: None) is None


def test_jobs_without_a_bound_and_of_unknown_price_take_nothing_of_a_budget() -> None:
    sending = SendingOrder("shortest", budget := BudgetFit(100))
    for cost in (None, JobCost(expected_pico=1, worst_pico=None), JobCost(expected_pico=10, worst_pico=60)):
        sending.add(5, GROUP, GROUP, ChargedRequest(Cost(tokens=5, input_tokens=5)), cost)
    sending.close()
    assert (budget.expected, budget.at_least) == (1, 1)


@pytest.mark.parametrize("jobs", [100_000, pytest.param(300_000, marks=pytest.mark.slow)])
def test_number_of_classes_does_not_grow_with_that_of_jobs(jobs: int) -> None:
    sending = SendingOrder("longest", None)
    for size in range(1, jobs):
        sending.add(size, GROUP, GROUP, ChargedRequest(Cost(tokens=size, input_tokens=size)), None)
    assert len(sending._classes) < 4000
