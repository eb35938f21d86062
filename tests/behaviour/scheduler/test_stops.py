"""What ends a run before its end, and what it leaves."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from processor.core.errors import AccessDenied
from processor.core.events import JobFinished, RequestListener, Stopping, Transport
from processor.core.models import JSON, Job, Reply, Target
from processor.health.endpoint_health import MAX_REJECTIONS
from processor.retry.policy import RetryPolicy
from processor.scheduler import RunOptions, Scheduler
from processor.simulator.faults import Faults
from processor.simulator.settings import SimulatorSettings
from tests.support.scheduler_world import ERRORS, QUICK, During, World, ask

SLOW = replace(QUICK, first_token_s=1.0, first_token_jitter=0.0, speed_tps=10.0, reply_tokens=(40, 60))
"""Replies of about five seconds."""


def jobs(count: int) -> list[JSON]:
    return [ask(number) for number in range(count)]


def at(seconds: float, act: str, **how: object) -> During:
    def during(run: Scheduler) -> None:
        def stop() -> None:
            if act == "stop":
                run.stop("interrupted", exit_code=130)
            else:
                run.abort()

        asyncio.get_running_loop().call_at(seconds, stop)

    return during


def both(*arrange: During) -> During:
    def during(run: Scheduler) -> None:
        for one in arrange:
            one(run)

    return during


# ---------------------------------------------------------------- the provider says no


def test_a_wrong_key_costs_one_request_and_stops_the_run_with_the_providers_message() -> None:
    world = World(replace(QUICK, auth="refused"))
    ran = world.run(jobs(50))
    assert ran.exit_code == 3
    assert ran.reason == "the provider refused: You didn't provide an API key."
    assert len(ran.sent) == 1
    assert not world.rows() and not world.failures()
    assert len(ran.said(Stopping)) == 1


def test_while_the_scout_waits_for_its_response_nobody_else_goes_for_two_seconds() -> None:
    world = World(replace(QUICK, first_token_s=30.0, first_token_jitter=0.0))
    ran = world.run(jobs(8))
    times = [at for at, _, _ in ran.sent]
    assert times[0] < 0.1
    assert 2.0 <= min(times[1:]) < 2.2
    assert max(times) < 2.3


def test_the_scouts_response_lets_the_others_go() -> None:
    world = World(replace(SLOW, first_token_s=0.5))
    times = [at for at, _, _ in world.run(jobs(8)).sent]
    assert 0.5 <= min(times[1:]) <= max(times) < 0.7, "its reply goes on for seconds"


def test_quota_that_ends_in_the_middle_stops_the_run_and_what_is_in_flight_is_finished() -> None:
    world = World(replace(SLOW, quota=20))
    ran = world.run(jobs(100), concurrency=8)
    assert ran.exit_code == 3
    assert ran.reason and "You exceeded your current quota" in ran.reason
    assert len(world.rows()) == 20
    assert world.platter.contents(ERRORS) is None
    world.provider.settings = replace(world.provider.settings, quota=None)
    assert world.run(jobs(100)).exit_code == 0
    assert world.provider.billing.completed == 100


def test_twenty_rejections_and_no_success_stop_the_run() -> None:
    world = World()
    ran = world.run([ask(number, n="many") for number in range(1000)], concurrency=4)
    assert ran.exit_code == 3
    assert ran.reason == "the first 20 requests were all rejected: Invalid type for 'n': expected an integer."
    assert len(ran.sent) <= MAX_REJECTIONS + 4
    assert len(world.failures()) <= len(ran.sent)


def test_after_one_success_rejections_only_fail_their_jobs() -> None:
    world = World(replace(QUICK, models=("m",)))
    ran = world.run([ask(0), *(ask(number, model="unknown") for number in range(1, 60))], concurrency=1)
    assert ran.exit_code == 1
    assert len(world.failures()) == 59


@pytest.mark.parametrize("first", [True, False])
def test_a_403_stops_the_run_unless_the_key_has_worked_before(first: bool) -> None:
    def through(stream: Transport) -> Transport:
        async def forbidding(job: Job, target: Target, tell: RequestListener) -> Reply:
            if (job.custom_id == "job-0") is first:
                raise AccessDenied("not in your country", status=403)
            return await stream(job, target, tell)

        return forbidding

    world = World()
    wanted = jobs(5) if first else jobs(2)
    ran = world.run(wanted, concurrency=1, through=through)
    assert ran.exit_code == (3 if first else 1)
    assert len(world.failures()) == (0 if first else 1)


def test_a_wait_longer_than_max_wait_ends_the_run_with_the_time_to_come_back() -> None:
    world = World(replace(QUICK, rpm=10, kind="silent", count_throttled=False))
    ran = world.run(jobs(30), policy=RetryPolicy(max_wait_s=2.0))
    assert ran.exit_code == 3
    assert ran.reason and ran.reason.startswith("the provider asks to wait until 20")
    assert world.platter.contents(ERRORS) is None
    assert len(world.rows()) == 10


def test_a_wait_within_max_wait_is_obeyed_and_costs_no_attempt() -> None:
    world = World(replace(QUICK, rpm=10, kind="silent", count_throttled=False))
    ran = world.run(jobs(30), policy=RetryPolicy(max_attempts=1))
    assert ran.exit_code == 0
    assert 100 < ran.took_s < 200


# ---------------------------------------------------------------- somebody stops it


def test_stopping_lets_what_is_in_flight_finish_and_sends_nothing_more() -> None:
    world = World(SLOW)
    ran = world.run(jobs(100), concurrency=8, during=at(20.0, "stop"))
    assert (ran.exit_code, ran.reason) == (130, "interrupted")
    assert not ran.left_in_flight
    assert max(at for at, _, _ in ran.sent) < 20.0
    assert len(world.rows()) == len(ran.sent) == world.provider.billing.completed
    assert ran.took_s < 30
    assert world.run(jobs(100)).exit_code == 0
    assert world.provider.billing.requests == 100


def test_after_the_grace_period_what_is_still_in_flight_is_broken_off() -> None:
    world = World(SLOW)
    ran = world.run(jobs(100), concurrency=8, options=RunOptions(grace_s=1.0), during=at(20.0, "stop"))
    assert ran.exit_code == 130
    assert 21.0 <= ran.took_s < 21.1
    assert 0 < len(ran.left_in_flight) <= 8
    assert len(world.rows()) + len(ran.left_in_flight) == len(ran.sent)
    assert world.run(jobs(100)).exit_code == 0
    assert world.provider.billing.requests == 100 + len(ran.left_in_flight)


def test_a_second_interrupt_breaks_off_at_once_with_whole_lines() -> None:
    world = World(SLOW)
    ran = world.run(jobs(100), concurrency=8, during=both(at(20.0, "stop"), at(20.5, "abort")))
    assert ran.exit_code == 130
    assert 20.5 <= ran.took_s < 20.6
    assert len(world.rows()) + len(ran.left_in_flight) == len(ran.sent)
    assert len(ran.said(JobFinished)) == len(world.rows())


def test_the_next_run_knows_how_many_requests_may_have_been_billed_for_nothing() -> None:
    world = World(SLOW)
    ran = world.run(jobs(100), concurrency=8, options=RunOptions(grace_s=0.0), during=at(20.0, "stop"))
    again = world.run(jobs(100))
    assert ran.left_in_flight
    assert again.maybe_billed == len(ran.left_in_flight)
    attempts = {row["custom_id"]: row["attempts"] for row in world.rows()}
    assert all(attempts[custom_id] == 2 for custom_id, _ in ran.left_in_flight)


def test_jobs_that_wait_for_a_permit_or_a_backoff_are_let_go_at_once() -> None:
    world = World(replace(QUICK, faults=Faults({"error_500": 1.0})))
    ran = world.run(jobs(5), during=at(3.0, "stop"))
    assert ran.exit_code == 130
    assert ran.took_s < 4
    assert not world.rows() and not world.failures()


def test_stopping_before_the_first_request_is_sent_sends_none() -> None:
    world = World()
    ran = world.run(jobs(5), during=lambda run: run.stop("interrupted", exit_code=130))
    assert (ran.exit_code, ran.sent) == (130, [])


def test_a_backoff_holds_no_slot() -> None:
    """One slot, a job that always fails at once, and others that still get through while it waits."""
    world = World(replace(QUICK, first_token_s=0.1))

    def through(stream: Transport) -> Transport:
        async def unlucky(job: Job, target: Target, tell: RequestListener) -> Reply:
            if job.custom_id == "job-0":
                return await broken(job, target, tell)
            return await stream(job, target, tell)

        broken = world.transport(SimulatorSettings(first_token_s=0.0, faults=Faults({"error_500": 1.0})))
        return unlucky

    ran = world.run(jobs(20), concurrency=1, through=through)
    finished = [event.result.custom_id for event in ran.said(JobFinished)]
    assert finished[-1] == "job-0"
    assert len(world.rows()) == 19
