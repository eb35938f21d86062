"""What stops a run before all jobs have rows, and what it leaves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Literal

from processor.core.events import JobFinished, RequestListener, Stopping, Transport
from processor.core.models import JSON, Job, Reply, Target
from processor.health.endpoint_health import MAX_REJECTIONS
from processor.health.first_requests import DOUBLING_S
from processor.ratelimit.strategies.concurrency_controller import INITIAL_CONCURRENCY
from processor.retry.policy import RetryPolicy
from processor.scheduler import RunOptions, Scheduler
from processor.simulator.faults import Faults
from processor.simulator.settings import SimulatorSettings
from tests.support.scheduler_world import ERRORS, FAST_PROVIDER, OnStart, World, short_job

SLOW = replace(FAST_PROVIDER, first_token_s=1.0, first_token_jitter=0.0, speed_tps=10.0, reply_tokens=(40, 60))
"""Replies that take about five seconds."""


def jobs(count: int) -> list[JSON]:
    return [short_job(number) for number in range(count)]


def at(seconds: float, action: Literal["stop", "abort"]) -> OnStart:
    def on_start(run: Scheduler) -> None:
        def stop() -> None:
            if action == "stop":
                run.stop("interrupted", exit_code=130)
            else:
                run.abort()

        asyncio.get_running_loop().call_at(seconds, stop)

    return on_start


def all_of(*callbacks: OnStart) -> OnStart:
    def on_start(run: Scheduler) -> None:
        for callback in callbacks:
            callback(run)

    return on_start


# ---------------------------------------------------------------- stopped by the provider


def test_wrong_key_costs_one_request_and_stops_the_run_with_the_providers_message() -> None:
    world = World(replace(FAST_PROVIDER, auth="refused"))
    run = world.run(jobs(50))
    assert run.exit_code == 3
    assert run.reason == "the provider refused: Incorrect API key provided."
    assert len(run.sent) == 1
    assert not world.rows() and not world.failures()
    assert len(run.events_of(Stopping)) == 1


def test_canary_without_a_response_holds_other_requests_back_for_two_seconds() -> None:
    world = World(replace(FAST_PROVIDER, first_token_s=30.0, first_token_jitter=0.0))
    run = world.run(jobs(INITIAL_CONCURRENCY))
    times = sorted(at for at, _, _ in run.sent)
    assert times[0] < 0.1
    assert 2.0 <= times[1] < 2.2
    assert max(times) < 2.2 + DOUBLING_S, "then the number in flight doubles"


def test_response_to_the_canary_lets_other_requests_follow() -> None:
    world = World(replace(SLOW, first_token_s=0.5))
    times = [at for at, _, _ in world.run(jobs(INITIAL_CONCURRENCY)).sent]
    assert 0.5 <= min(times[1:]) <= max(times) < 0.7, "its reply takes seconds more"


def test_exhausted_quota_stops_the_run_and_requests_in_flight_finish() -> None:
    world = World(replace(SLOW, quota=20))
    run = world.run(jobs(100), concurrency=8)
    assert run.exit_code == 3
    assert run.reason and "You exceeded your current quota" in run.reason
    assert len(world.rows()) == 20
    assert world.disk.contents(ERRORS) is None
    world.provider.settings = replace(world.provider.settings, quota=None)
    assert world.run(jobs(100)).exit_code == 0
    assert world.provider.billing.completed == 100


def test_twenty_rejections_without_a_success_stop_the_run() -> None:
    world = World()
    run = world.run([short_job(number, n="many") for number in range(1000)], concurrency=4)
    assert run.exit_code == 3
    assert run.reason == "the first 20 requests were all rejected: Invalid type for 'n': expected an integer."
    assert len(run.sent) <= MAX_REJECTIONS + 4
    assert len(world.failures()) <= len(run.sent)


def test_rejections_after_a_success_fail_only_their_jobs() -> None:
    world = World()
    run = world.run([short_job(0), *(short_job(number, n="many") for number in range(1, 60))], concurrency=1)
    assert run.exit_code == 1
    assert len(world.failures()) == 59


def test_wait_longer_than_max_wait_stops_the_run_with_the_time_to_come_back() -> None:
    world = World(replace(FAST_PROVIDER, rpm=10, kind="silent", count_throttled=False))
    run = world.run(jobs(30), policy=RetryPolicy(max_wait_s=2.0))
    assert run.exit_code == 3
    assert run.reason and run.reason.startswith("the provider asks to wait until 20")
    assert world.disk.contents(ERRORS) is None
    assert len(world.rows()) == 10


def test_wait_within_max_wait_is_obeyed_and_not_counted() -> None:
    world = World(replace(FAST_PROVIDER, rpm=10, kind="silent", count_throttled=False))
    run = world.run(jobs(30), policy=RetryPolicy(max_attempts=1))
    assert run.exit_code == 0
    assert 100 < run.took_s < 200


# ---------------------------------------------------------------- stopped by the user


def test_stop_lets_requests_in_flight_finish_and_sends_no_more() -> None:
    world = World(SLOW)
    run = world.run(jobs(100), concurrency=8, on_start=at(20.0, "stop"))
    assert (run.exit_code, run.reason) == (130, "interrupted")
    assert not run.left_in_flight
    assert max(at for at, _, _ in run.sent) < 20.0
    assert len(world.rows()) == len(run.sent) == world.provider.billing.completed
    assert run.took_s < 30
    assert world.run(jobs(100)).exit_code == 0
    assert world.provider.billing.requests == 100


def test_requests_in_flight_are_cancelled_after_the_grace_period() -> None:
    world = World(SLOW)
    run = world.run(jobs(100), concurrency=8, options=RunOptions(grace_s=1.0), on_start=at(20.0, "stop"))
    assert run.exit_code == 130
    assert 21.0 <= run.took_s < 21.1
    assert 0 < len(run.left_in_flight) <= 8
    assert len(world.rows()) + len(run.left_in_flight) == len(run.sent)
    assert world.run(jobs(100)).exit_code == 0
    assert world.provider.billing.requests == 100 + len(run.left_in_flight)


def test_second_interrupt_cancels_at_once_and_leaves_whole_lines() -> None:
    world = World(SLOW)
    run = world.run(jobs(100), concurrency=8, on_start=all_of(at(20.0, "stop"), at(20.5, "abort")))
    assert run.exit_code == 130
    assert 20.5 <= run.took_s < 20.6
    assert len(world.rows()) + len(run.left_in_flight) == len(run.sent)
    assert len(run.events_of(JobFinished)) == len(world.rows())


def test_next_run_knows_how_many_requests_may_have_been_billed_without_a_reply() -> None:
    world = World(SLOW)
    run = world.run(jobs(100), concurrency=8, options=RunOptions(grace_s=0.0), on_start=at(20.0, "stop"))
    again = world.run(jobs(100))
    assert run.left_in_flight
    assert again.possibly_billed == len(run.left_in_flight)
    attempts = {row["custom_id"]: row["attempts"] for row in world.rows()}
    assert all(attempts[custom_id] == 2 for custom_id, _ in run.left_in_flight)


def test_stop_cancels_jobs_that_wait_for_a_permit_or_a_backoff_at_once() -> None:
    world = World(replace(FAST_PROVIDER, faults=Faults({"error_500": 1.0})))
    run = world.run(jobs(5), on_start=at(3.0, "stop"))
    assert run.exit_code == 130
    assert run.took_s < 4
    assert not world.rows() and not world.failures()


def test_stop_before_the_first_request_sends_none() -> None:
    world = World()
    run = world.run(jobs(5), on_start=lambda run: run.stop("interrupted", exit_code=130))
    assert (run.exit_code, run.sent) == (130, [])


def test_backoff_holds_no_slot() -> None:
    """With one slot, other jobs are sent while a job that always fails is in its backoff."""
    world = World(replace(FAST_PROVIDER, first_token_s=0.1))

    def wrap_transport(transport: Transport) -> Transport:
        async def failing_first_job(job: Job, target: Target, on_event: RequestListener) -> Reply:
            if job.custom_id == "job-0":
                return await broken(job, target, on_event)
            return await transport(job, target, on_event)

        broken = world.transport(SimulatorSettings(first_token_s=0.0, faults=Faults({"error_500": 1.0})))
        return failing_first_job

    run = world.run(jobs(20), concurrency=1, wrap_transport=wrap_transport)
    finished = [event.result.custom_id for event in run.events_of(JobFinished)]
    assert finished[-1] == "job-0"
    assert len(world.rows()) == 19
