"""Admission of a job takes as many steps whatever the number of limit groups, of endpoints and of jobs that wait."""

from __future__ import annotations

import asyncio

import pytest

from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.simulator.virtual_clock import run
from tests.support.admission_cost import Bound, admission_cost
from tests.support.byte_codes import ByteCodeCounter
from tests.support.limiter_simulation import request_size

pytestmark = pytest.mark.sampled(most=2)

TOLERANCE = 1.25
"""The first job of a limit group makes it, which costs more than to find it."""


CASES: list[tuple[Bound, bool, bool]] = [
    ("limits", False, False),
    ("slots", False, False),
    ("limits", True, False),
    ("slots", True, False),
    ("limits", True, True),
    ("slots", True, True),
    ("budget", True, True),
]
"""What the jobs wait for; whether there is a dispatcher; whether there is a budget."""


@pytest.mark.parametrize(("bound", "dispatched", "has_budget"), CASES)
def test_cost_of_a_job_does_not_grow_with_the_number_of_limit_groups(
    bound: Bound, dispatched: bool, has_budget: bool
) -> None:
    few, many = (
        admission_cost(3 * groups, groups=groups, bound=bound, dispatched=dispatched, has_budget=has_budget, trace=True)
        for groups in (12, 48)
    )
    assert many.byte_codes < TOLERANCE * few.byte_codes


@pytest.mark.parametrize(("bound", "has_budget"), [(bound, budget) for bound, several, budget in CASES if several])
def test_cost_of_a_job_does_not_grow_with_the_number_of_endpoints(bound: Bound, has_budget: bool) -> None:
    few, many = (
        admission_cost(100, endpoints=endpoints, bound=bound, dispatched=True, has_budget=has_budget, trace=True)
        for endpoints in (4, 16)
    )
    assert many.byte_codes < TOLERANCE * few.byte_codes


@pytest.mark.parametrize(("bound", "dispatched", "has_budget"), CASES)
def test_cost_of_a_job_does_not_grow_with_the_number_of_jobs_that_wait(
    bound: Bound, dispatched: bool, has_budget: bool
) -> None:
    few, many = (
        admission_cost(jobs, bound=bound, dispatched=dispatched, has_budget=has_budget, trace=True)
        for jobs in (30, 200)
    )
    assert many.byte_codes < TOLERANCE * few.byte_codes


def next_start_cost(groups: int) -> int:
    """Byte codes of the question when the next request may start, while the jobs of so many groups wait."""

    async def main() -> int:
        settings = LimitSettings(per_model={f"m{at}": RateLimits(rpm=1) for at in range(groups)})
        limiter = RateLimiter(settings, emit=lambda event: None, concurrency=10_000)

        async def send(number: int) -> None:
            permit = await limiter.acquire(request_size(model=f"m{number % groups}"), is_retry=False)
            permit.sent(asyncio.get_running_loop().time())

        tasks = [asyncio.create_task(send(number)) for number in range(2 * groups)]
        await asyncio.sleep(5.0)
        assert limiter.next_start_at() is not None
        # The first question puts the times in order that have changed since the one before.
        with ByteCodeCounter() as counter:
            limiter.next_start_at()
        for task in tasks:
            task.cancel()
        return counter.count

    return run(main())


def test_next_start_is_known_without_a_look_at_all_limit_groups() -> None:
    assert 0 < next_start_cost(300) <= next_start_cost(3)
