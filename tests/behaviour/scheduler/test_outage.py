"""The provider is down from 02:00 to 03:00. The run has begun at 01:59."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from processor.core.events import BottleneckChanged, OutageEnded, OutageStarted
from processor.health.outage_detector import MAX_PROBE_INTERVAL_S
from processor.scheduler import RunOptions
from processor.simulator.faults import Faults
from processor.simulator.settings import Outage, OutageKind
from tests.support.scheduler_network import gone
from tests.support.scheduler_world import ERRORS, QUICK, World, ask

WAYS: tuple[OutageKind, ...] = ("refuse", "500", "503", "429")
DOWN_S, UP_S = 60.0, 3660.0
PACED = replace(QUICK, first_token_s=2.0)
JOBS = [ask(number) for number in range(400)]
"""At 8 in flight they take some minutes."""


def night(how: OutageKind) -> World:
    return World(replace(PACED, outages=(Outage(from_s=DOWN_S, to_s=UP_S, kind=how),)))


@pytest.mark.parametrize("how", WAYS)
def test_an_hour_without_the_provider_costs_no_job_anything(how: OutageKind) -> None:
    world = night(how)
    ran = world.run(JOBS)
    assert (ran.exit_code, ran.reason) == (0, None)
    assert len({row["custom_id"] for row in world.rows()}) == 400
    assert world.platter.contents(ERRORS) is None
    assert world.provider.billing.completed == 400


@pytest.mark.parametrize("how", WAYS)
def test_it_is_noticed_said_once_and_over_when_it_is_over(how: OutageKind) -> None:
    ran = night(how).run(JOBS)
    (begun,), (over,) = ran.said(OutageStarted), ran.said(OutageEnded)
    assert begun.message
    assert DOWN_S < begun.at < DOWN_S + 120
    assert UP_S < over.at < UP_S + MAX_PROBE_INTERVAL_S + 10
    bounds = [event.bottleneck for event in ran.said(BottleneckChanged) if DOWN_S + 120 < event.at < UP_S]
    assert set(bounds) <= {"outage"}


@pytest.mark.parametrize("how", ["500", "503", "429"])
def test_meanwhile_one_request_at_a_time_asks_ever_more_rarely(how: OutageKind) -> None:
    ran = night(how).run(JOBS)
    (begun,) = ran.said(OutageStarted)
    probes = [at for at, _, _ in ran.sent if begun.at + 5 < at < UP_S]
    gaps = [later - earlier for earlier, later in pairwise(probes)]
    assert 20 < len(probes) < 60
    assert all(later > earlier * 0.9 for earlier, later in pairwise(gaps))
    assert max(gaps) < MAX_PROBE_INTERVAL_S + 10


@pytest.mark.parametrize("how", WAYS)
def test_afterwards_it_goes_on_at_full_width(how: OutageKind) -> None:
    ran = night(how).run(JOBS)
    (over,) = ran.said(OutageEnded)
    assert sum(over.at < at < over.at + 5 for at, _, _ in ran.sent) >= 8


@pytest.mark.parametrize("how", WAYS)
def test_an_outage_that_is_too_long_ends_the_run_and_the_next_one_goes_on(how: OutageKind) -> None:
    world = night(how)
    ran = world.run(JOBS, max_outage_s=1800.0)
    assert ran.exit_code == 3
    assert ran.reason and ran.reason.startswith("the provider has been down for 0.5 h: ")
    assert 1800 < ran.took_s < 1800 + DOWN_S + 2 * MAX_PROBE_INTERVAL_S + 60
    assert world.platter.contents(ERRORS) is None
    world.now_s = UP_S
    assert world.run(JOBS).exit_code == 0
    assert world.provider.billing.completed == 400


def test_failures_of_the_ordinary_kind_are_no_outage() -> None:
    world = World(replace(PACED, faults=Faults({"error_500": 0.2, "cut": 0.1, "burst_429": 0.02})))
    ran = world.run(JOBS)
    assert ran.said(OutageStarted) == []


def test_one_job_that_always_fails_is_no_outage() -> None:
    world = World(replace(PACED, faults=Faults({"error_500": 1.0})))
    ran = world.run([ask(1)], options=RunOptions())
    assert ran.exit_code == 1
    assert ran.said(OutageStarted) == []
    assert len(world.failures()) == 1


def test_a_server_that_is_not_there_from_the_start_is_said_at_once() -> None:
    world = World(replace(PACED, outages=(Outage(from_s=0.0, to_s=1e6, kind="refuse"),)))
    ran = world.run(JOBS)
    assert ran.exit_code == 3
    assert ran.reason == "the connection was refused; is --base-url right, and the server up?"
    assert ran.took_s < 3


LONG = replace(QUICK, first_token_s=1.0, speed_tps=1.0, reply_tokens=(40, 60), write_batch_s=10.0)
"""Replies of a minute."""


def test_long_replies_under_way_are_a_sign_of_life_among_many_quick_failures() -> None:
    world = World(replace(LONG, faults=Faults({"error_500": 0.3})))
    ran = world.run(JOBS, concurrency=64)
    assert ran.said(OutageStarted) == []


@pytest.mark.parametrize("how", WAYS)
def test_replies_that_were_under_way_when_the_outage_began_do_not_end_it(how: OutageKind) -> None:
    world = World(replace(LONG, outages=(Outage(from_s=DOWN_S, to_s=UP_S, kind=how),)))
    ran = world.run(JOBS, concurrency=64)
    (begun,), (over,) = ran.said(OutageStarted), ran.said(OutageEnded)
    assert begun.at < over.at
    assert ran.exit_code == 0


def test_a_provider_that_breaks_every_reply_off_is_down() -> None:
    world = World(replace(PACED, faults=Faults({"reset_mid": 1.0})))
    ran = world.run(JOBS, max_outage_s=3600.0)
    assert ran.exit_code == 3
    assert ran.reason and ran.reason.startswith("the provider has been down for 1 h: ")
    assert world.platter.contents(ERRORS) is None


@pytest.mark.parametrize("away_s", [0.0, 10.0, 600.0])
def test_a_network_that_goes_away_again_and_again_costs_no_job_anything(away_s: float) -> None:
    world = World(replace(LONG, reply_tokens=(10, 15)))
    times = [(begin, begin + away_s) for begin in (20.0 + number * (away_s + 14.0) for number in range(12))]
    ran = world.run(JOBS, concurrency=64, through=gone(*times))
    assert (ran.exit_code, ran.reason) == (0, None)
    assert len(world.rows()) == 400
    assert world.provider.billing.requests > 400, "some were cut"
