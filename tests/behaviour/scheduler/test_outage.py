"""The provider is down for an hour, beginning a minute after the start of the run."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from processor.core.events import BottleneckChanged, OutageEnded, OutageStarted
from processor.health.outage_detector import MAX_PROBE_INTERVAL_S
from processor.scheduler import RunOptions
from processor.simulator.faults import Faults
from processor.simulator.settings import Outage, OutageKind
from tests.support.scheduler_network import network_down_during
from tests.support.scheduler_world import ERRORS, FAST_PROVIDER, RunRecord, World, short_job
from tests.support.slow_cases import slow_except

OUTAGE_KINDS: tuple[OutageKind, ...] = ("refuse", "500", "503", "429")
DOWN_S, UP_S = 60.0, 3660.0
PROVIDER = replace(FAST_PROVIDER, first_token_s=2.0)
JOBS = [short_job(number) for number in range(400)]
"""With 8 requests in flight they take some minutes."""


def world_with_outage(how: OutageKind) -> World:
    return World(replace(PROVIDER, outages=(Outage(from_s=DOWN_S, to_s=UP_S, kind=how),)))


@cache
def run_with_outage(how: OutageKind) -> tuple[World, RunRecord]:
    """One run through the outage; several tests look at it."""
    world = world_with_outage(how)
    return world, world.run(JOBS)


@pytest.mark.parametrize("how", slow_except(OUTAGE_KINDS, "503"))
def test_outage_of_an_hour_fails_no_job(how: OutageKind) -> None:
    world, run = run_with_outage(how)
    assert (run.exit_code, run.reason) == (0, None)
    assert len({row["custom_id"] for row in world.rows()}) == 400
    assert world.disk.contents(ERRORS) is None
    assert world.provider.billing.completed == 400


@pytest.mark.parametrize("how", slow_except(OUTAGE_KINDS, "503"))
def test_outage_and_recovery_are_each_reported_once(how: OutageKind) -> None:
    _, run = run_with_outage(how)
    (started,), (ended,) = run.events_of(OutageStarted), run.events_of(OutageEnded)
    assert started.message
    assert DOWN_S < started.at < DOWN_S + 120
    assert UP_S < ended.at < UP_S + MAX_PROBE_INTERVAL_S + 10


@pytest.mark.parametrize("how", slow_except(OUTAGE_KINDS, "refuse", "503"))
def test_outage_is_the_bottleneck_from_its_start_to_its_end(how: OutageKind) -> None:
    _, run = run_with_outage(how)
    (started,), (ended,) = run.events_of(OutageStarted), run.events_of(OutageEnded)
    changes = run.events_of(BottleneckChanged)
    last_before_the_end = [event for event in changes if event.at < ended.at][-1]
    assert (last_before_the_end.bottleneck, last_before_the_end.at) == ("outage", started.at)
    assert changes[-1].at >= ended.at
    assert changes[-1].bottleneck != "outage"


@pytest.mark.parametrize("how", slow_except(["500", "503", "429"], "503"))
def test_outage_is_probed_by_single_requests_at_growing_intervals(how: OutageKind) -> None:
    _, run = run_with_outage(how)
    (started,) = run.events_of(OutageStarted)
    probes = [at for at, _, _ in run.sent if started.at + 5 < at < UP_S]
    gaps = [later - earlier for earlier, later in pairwise(probes)]
    assert 20 < len(probes) < 60
    assert all(later > earlier * 0.9 for earlier, later in pairwise(gaps))
    assert max(gaps) < MAX_PROBE_INTERVAL_S + 10


@pytest.mark.parametrize("how", slow_except(OUTAGE_KINDS, "refuse", "503"))
def test_full_concurrency_returns_after_an_outage(how: OutageKind) -> None:
    _, run = run_with_outage(how)
    (ended,) = run.events_of(OutageEnded)
    assert sum(ended.at < at < ended.at + 5 for at, _, _ in run.sent) >= 8


@pytest.mark.parametrize("how", slow_except(OUTAGE_KINDS, "refuse"))
def test_outage_longer_than_max_outage_stops_the_run_and_the_next_run_continues(how: OutageKind) -> None:
    world = world_with_outage(how)
    run = world.run(JOBS, max_outage_s=1800.0)
    assert run.exit_code == 3
    assert run.reason and run.reason.startswith("the provider has been down for 0.5 h: ")
    assert 1800 < run.took_s < 1800 + DOWN_S + 2 * MAX_PROBE_INTERVAL_S + 60
    assert world.disk.contents(ERRORS) is None
    world.now_s = UP_S
    assert world.run(JOBS).exit_code == 0
    assert world.provider.billing.completed == 400


def test_occasional_failures_are_no_outage() -> None:
    world = World(replace(PROVIDER, faults=Faults({"error_500": 0.2, "cut": 0.1, "burst_429": 0.02})))
    run = world.run(JOBS)
    assert run.events_of(OutageStarted) == []


def test_single_job_that_always_fails_is_no_outage() -> None:
    world = World(replace(PROVIDER, faults=Faults({"error_500": 1.0})))
    run = world.run([short_job(1)], options=RunOptions())
    assert run.exit_code == 1
    assert run.events_of(OutageStarted) == []
    assert len(world.failures()) == 1


def test_unreachable_server_at_the_start_stops_the_run_at_once() -> None:
    world = World(replace(PROVIDER, outages=(Outage(from_s=0.0, to_s=1e6, kind="refuse"),)))
    run = world.run(JOBS)
    assert run.exit_code == 3
    assert run.reason == "the connection was refused; is --base-url right, and the server up?"
    assert run.took_s < 3


LONG_REPLIES = replace(FAST_PROVIDER, first_token_s=1.0, speed_tps=1.0, reply_tokens=(40, 60), write_batch_s=10.0)
"""Replies that take a minute."""


def test_long_replies_in_progress_prevent_an_outage_among_quick_failures() -> None:
    world = World(replace(LONG_REPLIES, faults=Faults({"error_500": 0.3})))
    run = world.run(JOBS, concurrency=64)
    assert run.events_of(OutageStarted) == []


@pytest.mark.parametrize("how", slow_except(OUTAGE_KINDS, "429"))
def test_replies_that_began_before_an_outage_do_not_end_it(how: OutageKind) -> None:
    world = World(replace(LONG_REPLIES, outages=(Outage(from_s=DOWN_S, to_s=UP_S, kind=how),)))
    run = world.run(JOBS, concurrency=64)
    (started,), (ended,) = run.events_of(OutageStarted), run.events_of(OutageEnded)
    assert started.at < ended.at
    assert run.exit_code == 0


def test_provider_that_breaks_off_every_reply_is_down() -> None:
    world = World(replace(PROVIDER, faults=Faults({"reset_mid": 1.0})))
    run = world.run(JOBS, max_outage_s=3600.0)
    assert run.exit_code == 3
    assert run.reason and run.reason.startswith("the provider has been down for 1 h: ")
    assert world.disk.contents(ERRORS) is None


@pytest.mark.parametrize("down_s", slow_except([0.0, 10.0, 600.0], 0.0))
def test_network_that_fails_repeatedly_fails_no_job(down_s: float) -> None:
    world = World(replace(LONG_REPLIES, reply_tokens=(10, 15)))
    times = [(begin, begin + down_s) for begin in (20.0 + number * (down_s + 14.0) for number in range(12))]
    run = world.run(JOBS, concurrency=64, wrap_transport=network_down_during(*times))
    assert (run.exit_code, run.reason) == (0, None)
    assert len(world.rows()) == 400
    assert world.provider.billing.requests > 400, "some requests were cut and sent again"
