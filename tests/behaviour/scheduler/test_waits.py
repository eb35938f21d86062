"""How long a server may make the program wait, and whom: a job, its limit group, or the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache, partial
from math import inf, nan
from random import Random
from typing import Any

import pytest

from processor.core.errors import RequestError, ServerError, StatusError, Throttled
from processor.core.events import AttemptFinished, JobFinished
from processor.core.models import JSON, Job
from processor.ratelimit.cooldown import FIRST_COOL_DOWN_S
from processor.ratelimit.settings import LimitSettings
from processor.retry.policy import RetryPolicy
from processor.scheduler import Scheduler
from tests.support.answers import answering, for_model, only
from tests.support.scheduler_world import ERRORS, OnStart, RunRecord, World, short_job
from tests.support.slow_cases import slow_except

pytestmark = pytest.mark.sampled(most=2)

NOT_A_WAIT = (
    1_800_000_000.0,
    1_800_000_000_000.0,
    1.8e15,
    1e12,
    1e308,
    inf,
    nan,
    -5.0,
    400 * 86400.0,
    999999999 * 3600.0,
)


def jobs(*numbers: int, **more: Any) -> list[JSON]:
    return [short_job(number, **more) for number in numbers]


def throttled(retry_after_s: float | None = None) -> Callable[[], RequestError]:
    return lambda: Throttled("slow down", status=429, retry_after_s=retry_after_s)


def unavailable(retry_after_s: float | None = None) -> Callable[[], RequestError]:
    return lambda: ServerError("overloaded", status=503, retry_after_s=retry_after_s)


def stop_at(seconds: float) -> OnStart:
    def on_start(run: Scheduler) -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(seconds, partial(run.stop, "interrupted", exit_code=130, grace_s=0.0))

    return on_start


def last_finished(run: RunRecord, *, without: str) -> float:
    finished: list[float] = [e.at for e in run.events_of(JobFinished) if e.result.custom_id != without]
    return max(finished)


@cache
def ordinary_run() -> RunRecord:
    return World().run(jobs(*range(200)))


@pytest.mark.parametrize("first", slow_except([0, 100], 0))
@pytest.mark.parametrize("retry_after_s", [None, 1.0, 1.8e12, nan, 7200.0])
@pytest.mark.parametrize("error", [throttled, unavailable])
def test_job_that_is_always_made_to_wait_delays_the_others_by_less_than_five_seconds(
    error: Callable[[float | None], Callable[[], RequestError]], retry_after_s: float | None, first: int
) -> None:
    world, name = World(), f"job-{first}"
    wrap = answering(only(name, error=error(retry_after_s)))
    run = world.run(jobs(*range(200)), wrap_transport=wrap, on_start=stop_at(120.0))
    assert len(world.rows()) == 199
    assert run.exit_code in (1, 130)
    assert last_finished(run, without=name) < last_finished(ordinary_run(), without="") + 5.0


def test_job_that_alone_is_throttled_fails_after_max_wait_and_is_sent_by_the_next_run() -> None:
    world = World()
    wrap = answering(only("job-0", error=throttled()))
    run = world.run(jobs(*range(100)), wrap_transport=wrap)
    (row,) = world.failures()
    assert (run.exit_code, row["custom_id"], row["error"]["code"]) == (1, "job-0", "rate_limited")
    assert "own_fault" not in row
    assert 3400 < run.took_s <= 3700
    assert world.run(jobs(*range(100))).exit_code == 0


@pytest.mark.parametrize("wait_s", slow_except([7200.0, 86400.0], 7200.0))
def test_job_that_alone_must_wait_for_longer_than_a_run_fails_at_once_and_is_sent_by_the_next_run(
    wait_s: float,
) -> None:
    world = World()
    wrap = answering(only("job-0", error=throttled(wait_s)))
    for _ in range(3):
        run = world.run(jobs(*range(100)), wrap_transport=wrap)
    assert (run.exit_code, len(run.sent)) == (3, 1), "nothing else is left that could show whose fault it is"
    assert len(world.rows()) == 99
    assert world.run(jobs(*range(100))).exit_code == 0
    assert world.disk.contents(ERRORS) is None


@pytest.mark.parametrize("error", [throttled(7200.0), unavailable(7200.0)])
def test_long_wait_of_all_ends_the_run_with_the_time_to_come_back(error: Callable[[], RequestError]) -> None:
    world = World()
    wrap = answering(lambda job: error() if int(job.custom_id[4:]) >= 50 else None)
    run = world.run(jobs(*range(200)), concurrency=8, wrap_transport=wrap)
    assert (run.exit_code, len(world.rows())) == (3, 50)
    assert len(run.sent) <= 50 + 2 + 8
    assert run.reason and run.reason.startswith("the provider asks to wait until 20")
    assert run.took_s < 30
    assert world.disk.contents(ERRORS) is None
    assert world.run(jobs(*range(200))).exit_code == 0


def test_long_wait_of_one_model_holds_back_only_its_limit_group() -> None:
    world = World()
    mixed = [short_job(number, model="m" if number % 2 else "slow") for number in range(200)]
    run = world.run(mixed, wrap_transport=answering(for_model("slow", throttled(7200.0))))
    assert (run.exit_code, len(world.rows())) == (3, 100)
    assert len(run.sent) <= 100 + 2 + 8
    assert run.took_s < 60


@pytest.mark.parametrize("error", [throttled(20.0), unavailable(20.0)])
def test_wait_holds_back_its_limit_group_and_no_other(error: Callable[[], RequestError]) -> None:
    answers = iter([error()])
    mixed = [short_job(number, model="m" if number % 2 else "busy") for number in range(100)]
    wrap = answering(lambda job: next(answers, None) if job.model == "busy" else None)
    run = World().run(mixed, wrap_transport=wrap)
    assert run.exit_code == 0
    sent = {model: [at for at, name, _ in run.sent if int(name[4:]) % 2 == (model == "m")] for model in ("m", "busy")}
    assert 20.0 <= sent["busy"][1] < 25.0
    assert max(sent["m"]) < 20.0


@pytest.mark.parametrize("wait_s", NOT_A_WAIT)
def test_wait_that_is_no_duration_is_not_obeyed(wait_s: float) -> None:
    answers = iter([throttled(wait_s)()])
    world = World()
    run = world.run(jobs(*range(10)), wrap_transport=answering(lambda job: next(answers, None)))
    assert (run.exit_code, len(world.rows())) == (0, 10)
    assert run.took_s < 30


def test_error_keeps_no_wait_that_is_no_duration() -> None:
    assert all(StatusError("no", status=429, retry_after_s=wait_s).retry_after_s is None for wait_s in NOT_A_WAIT)


def test_limit_that_refuses_many_is_not_taken_for_the_fault_of_each_job() -> None:
    """Half of all requests are refused, at random as it seems: the limit group is held back, and all are answered."""
    seen: dict[str, int] = {}

    def answer(job: Any) -> RequestError | None:
        seen[job.custom_id] = seen.get(job.custom_id, 0) + 1
        return throttled()() if seen[job.custom_id] <= int(job.custom_id[4:]) % 4 else None

    world = World()
    run = world.run(jobs(*range(100)), wrap_transport=answering(answer), policy=RetryPolicy(max_wait_s=3600.0))
    assert (run.exit_code, len(world.rows())) == (0, 100)


@pytest.mark.parametrize("concurrency", slow_except([8, 64], 64))
@pytest.mark.parametrize(("share", "of_ten_seconds"), [(0.02, 10), pytest.param(0.3, 1, marks=pytest.mark.slow)])
def test_server_that_refuses_a_few_costs_one_pause_each_and_is_asked_no_slower(
    share: float, of_ten_seconds: int, concurrency: int
) -> None:
    random = Random(5)

    def answer(job: Job) -> RequestError | None:
        is_refusing = asyncio.get_running_loop().time() % 10 >= 10 - of_ten_seconds
        return throttled()() if is_refusing and random.random() < share else None

    limits = LimitSettings(concurrency_is_fixed=True)
    ordinary = World().run(jobs(*range(400)), concurrency=concurrency, limits=limits)
    world = World()
    run = world.run(jobs(*range(400)), concurrency=concurrency, limits=limits, wrap_transport=answering(answer))
    assert (run.exit_code, len(world.rows())) == (0, 400)
    refusals = sum(event.status == 429 for event in run.events_of(AttemptFinished))
    allowed_s = 1.1 * last_finished(ordinary, without="") + 1.2 * FIRST_COOL_DOWN_S * refusals
    assert last_finished(run, without="") <= allowed_s
