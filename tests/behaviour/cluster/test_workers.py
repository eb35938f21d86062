"""Runs whose requests are sent by workers: as without them, and what follows when workers are lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from processor.cluster.memory import ClusterFaults, MemoryLink
from processor.cluster.messages import SendRequest, decode
from processor.core.events import Notice, OutageStarted, Transport
from processor.core.models import JSON
from processor.core.worker_events import WorkerEnded, WorkerStarted
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.retry.policy import MAX_WORKERS_LOST, RetryPolicy
from processor.scheduler import RunOptions, Scheduler
from processor.simulator.rate_limiter import LIMITER_KINDS, LimiterKind
from tests.support.cluster_world import ClusterTransport
from tests.support.scheduler_world import FAST_PROVIDER, KEY, RunRecord, World, short_job
from tests.support.slow_cases import slow_except

JOBS = [short_job(number) for number in range(60)]
SLOW = replace(FAST_PROVIDER, first_token_s=2.0, first_token_jitter=0.0, speed_tps=inf)
"""Every reply takes about two seconds. The first request is sent alone, so that from 2.1 s on all slots are in use."""
UNLIMITED = LimitSettings(concurrency_is_fixed=True)


class ClusterRun:
    """One run through workers in memory."""

    def __init__(
        self,
        jobs: bytes | list[JSON],
        *,
        world: World | None = None,
        on_start: Callable[[ClusterRun, Scheduler], None] = lambda run, scheduler: None,
        workers: int = 2,
        faults: ClusterFaults | None = None,
        cluster: dict[str, Any] | None = None,
        concurrency: int = 40,
        limits: LimitSettings = UNLIMITED,
        **more: Any,
    ) -> None:
        self.world = world or World(SLOW)
        self.transport: ClusterTransport

        def wrap(transport: Transport) -> Transport:
            self.transport = ClusterTransport(transport, workers=workers, faults=faults, **(cluster or {}))
            return self.transport

        self.record: RunRecord = self.world.run(
            jobs,
            wrap_transport=wrap,
            on_start=lambda scheduler: on_start(self, scheduler),
            concurrency=concurrency,
            limits=limits,
            **more,
        )

    @property
    def links(self) -> list[MemoryLink]:
        return self.transport.cluster.links

    @property
    def lost(self) -> int:
        """Requests that were in flight in a lost worker."""
        return self.transport.lost.total()

    def row_ids(self) -> list[str]:
        return sorted(row["custom_id"] for row in self.world.rows())


def at(time_s: float, act: Callable[[ClusterRun], None]) -> Callable[[ClusterRun, Scheduler], None]:
    """Do something in the middle of the run."""

    def on_start(run: ClusterRun, scheduler: Scheduler) -> None:
        scheduler._loop.call_at(time_s, act, run)

    return on_start


def assert_every_job_has_one_row(run: ClusterRun, jobs: list[JSON] = JOBS) -> None:
    assert run.row_ids() == sorted(job["id"] for job in jobs)
    assert run.world.failures() == []


def sent_by(link: MemoryLink) -> list[str]:
    """The jobs that were passed to a worker."""
    groups = [decode(data) for kind, data in link.passed if kind == "push"]
    return [message.job.custom_id for group in groups for message in group if isinstance(message, SendRequest)]


# ---------------------------------------------------------------- as without workers


def test_rows_are_those_of_a_run_without_workers() -> None:
    run, plain = ClusterRun(JOBS), World(SLOW)
    plain.run(JOBS, concurrency=40, limits=UNLIMITED)
    assert run.record.exit_code == 0
    bodies = {row["custom_id"]: (row["response"]["body"], row["usage"], row["attempts"]) for row in run.world.rows()}
    assert bodies == {
        row["custom_id"]: (row["response"]["body"], row["usage"], row["attempts"]) for row in plain.rows()
    }


def test_workers_share_the_requests() -> None:
    run = ClusterRun(JOBS, workers=3)
    assert len(run.transport.events_of(WorkerStarted)) == 3
    ended = run.transport.events_of(WorkerEnded)
    assert sum(event.requests for event in ended) == len(JOBS)
    assert all(event.requests > len(JOBS) / 6 and event.reason is None for event in ended)


def test_requests_in_flight_are_known_by_worker() -> None:
    seen: list[dict[str, int]] = []
    ClusterRun(JOBS, workers=3, on_start=at(3.0, lambda run: seen.append(run.transport.remote.in_flight())))
    (by_worker,) = seen
    assert set(by_worker) == {"worker 1", "worker 2", "worker 3"}
    assert sum(by_worker.values()) == 40
    assert max(by_worker.values()) - min(by_worker.values()) <= 1


def test_times_of_a_row_are_those_of_the_request_and_not_of_the_way() -> None:
    run = ClusterRun(JOBS[:5], faults=ClusterFaults(latency_s=(0.3, 0.3)))
    for row in run.world.rows():
        assert row["timing"]["first_token_s"] == pytest.approx(2.06, abs=0.15)


@pytest.mark.parametrize("kind", slow_except(LIMITER_KINDS, "sliding", "second"))
def test_limits_are_kept_and_used_as_without_workers(kind: LimiterKind) -> None:
    jobs = [short_job(number) for number in range(75)]
    settings = replace(FAST_PROVIDER, rpm=60, kind=kind)
    limits = LimitSettings(default=RateLimits(rpm=60.0)) if kind == "silent" else LimitSettings()
    plain = World(settings)
    alone = plain.run(jobs, limits=limits, concurrency=100)
    run = ClusterRun(jobs, world=World(settings), limits=limits, concurrency=100, workers=4)
    refused = run.world.provider.billing.statuses[429]
    assert refused <= plain.provider.billing.statuses[429]
    assert run.record.took_s < 1.02 * alone.took_s + 3.0
    assert_every_job_has_one_row(run, jobs)


def test_calls_of_a_worker_are_bounded_whatever_the_load() -> None:
    jobs = [short_job(number) for number in range(600)]
    run = ClusterRun(jobs, world=World(FAST_PROVIDER), concurrency=1000, workers=2)
    assert_every_job_has_one_row(run, jobs)
    for link in run.links:
        for kind in ("push", "pull"):
            assert sum(name == kind for name, _ in link.passed) <= 50 * run.record.took_s + 1
    assert sum(len(link.passed) for link in run.links) < len(jobs) / 2


def test_deeply_nested_job_with_a_large_integer_is_sent() -> None:
    value: Any = 2**70
    for _ in range(200):
        value = [value]
    job = json.dumps({**short_job(0), "extra": value}).encode()
    run = ClusterRun(job)
    assert run.record.exit_code == 0, run.record.reason


# ---------------------------------------------------------------- lost workers


def test_requests_of_a_killed_worker_are_sent_again_at_once() -> None:
    policy = RetryPolicy(max_attempts=1)
    run = ClusterRun(JOBS, on_start=at(3.0, lambda run: run.links[0].kill()), policy=policy)
    assert run.record.exit_code == 0
    assert_every_job_has_one_row(run)
    assert run.lost > 10
    assert len(run.world.log) == len(JOBS) + run.lost
    assert {row["attempts"] for row in run.world.rows()} == {1, 2}
    assert sum(row["attempts"] for row in run.world.rows()) == len(JOBS) + run.lost
    assert not run.record.events_of(OutageStarted)
    (ended,) = [event for event in run.transport.events_of(WorkerEnded) if event.reason]
    assert (ended.lost_requests, ended.reason) == (run.lost, "it was killed")
    (notice,) = run.transport.events_of(Notice)
    assert notice.text == f"{ended.worker} on memory was lost, with {run.lost} requests in flight: it was killed"
    assert run.record.took_s < 8


def test_late_replies_of_a_worker_that_was_given_up_are_dropped() -> None:
    faults = ClusterFaults(detected_after_s=1.0)
    run = ClusterRun(JOBS, faults=faults, on_start=at(3.0, lambda run: run.transport.cluster.partition(60.0)))
    assert run.record.exit_code == 0
    assert_every_job_has_one_row(run)
    assert run.lost >= 40
    assert len(run.world.log) == len(JOBS) + run.lost
    assert run.world.provider.billing.completed == len(JOBS) + run.lost  # they were paid twice


def test_worker_that_falls_silent_is_given_up() -> None:
    faults = ClusterFaults(detected_after_s=inf)
    run = ClusterRun(JOBS, faults=faults, on_start=at(3.0, lambda run: run.transport.cluster.partition(1000.0)))
    assert run.record.exit_code == 0
    assert_every_job_has_one_row(run)
    (reason,) = {event.reason for event in run.transport.events_of(WorkerEnded)} - {None}
    assert reason == "it has not answered for 60 s"
    assert 60 < run.record.took_s < 75


def test_short_silence_costs_nothing_but_time() -> None:
    faults = ClusterFaults(partitions=((3.0, 8.0),))
    run = ClusterRun(JOBS, faults=faults)
    assert (run.record.exit_code, run.lost, len(run.world.log)) == (0, 0, len(JOBS))


def test_many_workers_that_are_lost_together_do_not_end_the_run() -> None:
    def kill_all(run: ClusterRun) -> None:
        for link in run.links:
            link.kill("the node is gone")

    run = ClusterRun(JOBS, workers=8, on_start=at(3.0, kill_all))
    assert run.record.exit_code == 0
    assert_every_job_has_one_row(run)


def test_five_losses_without_a_reply_end_the_run() -> None:
    def kill_for_ever(run: ClusterRun) -> None:
        for link in run.links:
            link.kill("out of memory")
        run.transport.remote._pool._loop.call_later(1.0, kill_for_ever, run)

    run = ClusterRun(JOBS, on_start=at(1.0, kill_for_ever), policy=RetryPolicy(max_attempts=1))
    assert run.record.exit_code == 3
    assert run.record.reason == ("5 workers were lost, one after the other, without a reply in between: out of memory")
    assert run.world.failures() == []
    again = ClusterRun(JOBS, world=run.world)
    assert again.record.exit_code == 0
    assert_every_job_has_one_row(again)


def test_job_that_ends_every_worker_gets_a_failed_row() -> None:
    fatal = "job-7"

    def kill_senders(run: ClusterRun) -> None:
        for link in run.links:
            if fatal in sent_by(link):
                link.kill("it ran out of memory")
        run.transport.remote._pool._loop.call_later(0.1, kill_senders, run)

    settings = replace(FAST_PROVIDER, first_token_s=0.5, first_token_jitter=0.0, speed_tps=inf)
    run = ClusterRun(
        [short_job(number) for number in range(100)],
        world=World(settings),
        on_start=at(0.5, kill_senders),
        concurrency=10,
    )
    assert run.record.exit_code == 1
    (failure,) = run.world.failures()
    assert (failure["custom_id"], failure["error"]["code"]) == (fatal, "worker_lost")
    assert failure["attempts"] == MAX_WORKERS_LOST
    assert failure["error"]["message"].startswith("5 workers were lost while they had sent this job: ")
    assert len(run.world.rows()) == 99


def test_aborted_run_counts_what_workers_have_in_flight_as_sent() -> None:
    def stop(run: ClusterRun, scheduler: Scheduler) -> None:
        scheduler._loop.call_at(3.0, lambda: scheduler.stop("stopped", exit_code=130))

    run = ClusterRun(JOBS, on_start=stop, options=RunOptions(grace_s=0.0))
    assert run.record.exit_code == 130
    assert len(run.record.left_in_flight) == 40
    assert run.world.provider.billing.completed == 1  # the first one, which is sent alone
    again = ClusterRun(JOBS, world=run.world)
    assert (again.record.exit_code, again.record.possibly_billed) == (0, 40)


# ---------------------------------------------------------------- workers that cannot be used


def of_other_version(info: bytes) -> bytes:
    return json.dumps({**json.loads(info), "version": "9.9.9", "sources": "0"}).encode()


def test_run_without_a_usable_worker_ends_with_exit_3() -> None:
    run = ClusterRun(JOBS, cluster={"changed_info": of_other_version})
    assert run.record.exit_code == 3
    assert run.record.reason is not None
    assert run.record.reason.startswith("no worker can be used: memory has another version of processor (9.9.9, here ")
    assert run.world.log == []
    assert run.record.sent == []


def test_worker_of_another_version_is_not_used() -> None:
    seen: list[bytes] = []

    def first_is_other(info: bytes) -> bytes:
        seen.append(info)
        return of_other_version(info) if len(seen) == 1 else info

    run = ClusterRun(JOBS, cluster={"changed_info": first_is_other})
    assert run.record.exit_code == 0
    assert_every_job_has_one_row(run)
    assert len(run.transport.events_of(WorkerStarted)) == 1
    (notice,) = run.transport.events_of(Notice)
    assert "is not used: memory has another version" in notice.text


def test_worker_of_another_python_is_not_used() -> None:
    def other_python(info: bytes) -> bytes:
        return json.dumps({**json.loads(info), "python": "3.1"}).encode()

    run = ClusterRun(JOBS, cluster={"changed_info": other_python})
    assert run.record.exit_code == 3
    assert "memory has Python 3.1, and here it is" in (run.record.reason or "")


def test_workers_that_cannot_be_started_end_the_run() -> None:
    run = ClusterRun(JOBS, faults=ClusterFaults(failing_starts=100), workers=4)
    assert run.record.exit_code == 3
    assert run.record.reason == (
        "5 workers were lost, one after the other, without a reply in between: it could not be started"
    )
    assert run.record.sent == []


def test_workers_that_cannot_be_started_at_first_are_replaced() -> None:
    run = ClusterRun(JOBS, faults=ClusterFaults(failing_starts=4), workers=2)
    assert run.record.exit_code == 0
    assert_every_job_has_one_row(run)


# ---------------------------------------------------------------- the key


@pytest.mark.parametrize("environ", [{"THE_KEY": KEY}, {}, {"THE_KEY": "another key than that of this run"}])
def test_key_is_passed_only_where_the_worker_lacks_it(environ: dict[str, str]) -> None:
    world = World(replace(FAST_PROVIDER, auth="required"))
    run = ClusterRun(JOBS[:5], world=world, cluster={"environ": environ}, workers=1)
    assert run.record.exit_code == 0
    holding = [kind for kind, data in run.links[0].passed if KEY.encode() in data]
    assert holding == ([] if environ.get("THE_KEY") == KEY else ["set_targets"])
