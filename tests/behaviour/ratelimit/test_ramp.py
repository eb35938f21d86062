"""How soon the right number of requests is in flight at a server without limits, and how it follows the server."""

from __future__ import annotations

import math

import pytest

from processor.ratelimit.strategies.concurrency_controller import INITIAL_CONCURRENCY
from tests.support.ramp_campaign import RampRun, ramp_run
from tests.support.slow_cases import slow_except

slow = pytest.mark.slow
CAPACITIES = (4, 64, pytest.param(200, marks=slow), pytest.param(2000, marks=slow))


@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("reply_s", [0.2, pytest.param(1.0, marks=slow), pytest.param(10.0, marks=slow)])
@pytest.mark.parametrize("jobs", [200, pytest.param(2000, marks=slow)])
@pytest.mark.parametrize("more", [1, 4])
def test_given_number_is_in_flight_after_the_canary(more: int, jobs: int, reply_s: float, capacity: int) -> None:
    run, bound_s = ramp_run(jobs, reply_s, capacity, given=more * min(jobs, capacity))
    assert run.wall_s <= bound_s


@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("reply_s", [0.2, pytest.param(1.0, marks=slow), pytest.param(10.0, marks=slow)])
@pytest.mark.parametrize("jobs", [200, pytest.param(2000, marks=slow)])
def test_auto_takes_one_reply_time_for_each_doubling(jobs: int, reply_s: float, capacity: int) -> None:
    run, bound_s = ramp_run(jobs, reply_s, capacity, given=None)
    assert run.wall_s <= bound_s


def test_auto_grows_sooner_where_first_tokens_show_that_there_is_room() -> None:
    run = RampRun(jobs=2000, reply_s=10.0, capacity_at=lambda _: 2000).run()
    doublings = math.log2(2000 / INITIAL_CONCURRENCY)
    assert run.wall_s <= (0.75 * doublings + 1) * run.reply_s
    assert "replies begin in time" in run.reasons


@pytest.mark.parametrize("capacity", [40, 64, pytest.param(90, marks=slow), pytest.param(200, marks=slow)])
@pytest.mark.parametrize("seed", slow_except(range(8), 0))
def test_auto_sends_too_many_for_few_reply_times(capacity: int, seed: int) -> None:
    """About three where the last doubling leads to twice the knee, and more where a later raise leads beyond it."""
    run = RampRun(jobs=2000, reply_s=1.0, capacity_at=lambda _: capacity, seed=seed).run()
    assert run.crowded_s <= 5.0


def test_auto_comes_down_when_the_server_slows_and_up_again_when_it_recovers() -> None:
    def capacity_at(at: float) -> int:
        return 10 if 60 <= at < 180 else 50

    run = RampRun(jobs=10_000, reply_s=1.0, capacity_at=capacity_at).run()

    def mean_in_flight(since: float, until: float) -> float:
        numbers = [number for at, number in run.in_flight if since <= at < until]
        return sum(numbers) / len(numbers)

    assert 35 <= mean_in_flight(40, 60) <= 100
    assert mean_in_flight(140, 180) <= 0.7 * mean_in_flight(40, 60)
    assert mean_in_flight(215, 230) >= 35
    assert {"throughput follows", "throughput did not follow", "latency rose", "trying more"} <= run.reasons
