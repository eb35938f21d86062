"""``--until``: nothing is sent whose reply would come after the deadline, by the wall clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from processor.app.deadline import MIN_REPLIES, ReplyTime
from processor.core.events import Stopping
from processor.scheduler.deadline import UNKNOWN_REPLY_S, Deadline
from processor.simulator.settings import Outage, SimulatorSettings
from processor.stats.run_stats import RunStats
from tests.support.scheduler_world import EPOCH_S, World, short_job

TEN_SECONDS = SimulatorSettings(first_token_s=10.0, first_token_jitter=0.0, reply_tokens=(1, 1))


def until(seconds: float, *, reply_s: float, grace_s: float = 30.0, jump: float = 0.0) -> Callable[[], Deadline]:
    """A deadline so many seconds after the start. ``jump``: the wall clock jumps so far after 25 seconds, as it does
    while a machine is suspended."""

    def make() -> Deadline:
        loop = asyncio.get_running_loop()

        def wall_clock() -> float:
            return EPOCH_S + loop.time() + (jump if loop.time() > 25 else 0.0)

        return Deadline(EPOCH_S + seconds, wall_clock=wall_clock, reply_s=lambda: reply_s, grace_s=grace_s)

    return make


def jobs(count: int) -> list[dict[str, object]]:
    return [short_job(number, max_tokens=5) for number in range(count)]


def test_last_request_is_sent_so_that_its_reply_comes_in_time() -> None:
    world = World(TEN_SECONDS)
    run = world.run(jobs(50), concurrency=2, deadline=until(100.0, reply_s=12.0))
    assert run.exit_code == 3
    assert 80 < max(at for at, _, _ in run.sent) <= 88
    assert len(world.rows()) == len(run.sent)
    assert run.took_s < 101
    assert run.reason is not None and "leaves no time" in run.reason
    again = world.run(jobs(50), concurrency=2)
    assert again.exit_code == 0


def test_what_is_in_flight_at_the_deadline_has_the_grace_period() -> None:
    for grace_s, replies in ((8.0, 1), (2.0, 0)):
        world = World(SimulatorSettings(first_token_s=25.0, first_token_jitter=0.0, reply_tokens=(1, 1)))
        run = world.run(jobs(5), concurrency=1, deadline=until(20.0, reply_s=5.0, grace_s=grace_s))
        assert (run.exit_code, len(run.sent), len(world.rows())) == (3, 1, replies)
        assert run.took_s <= 20 + grace_s + 1


def test_nothing_is_sent_where_the_deadline_is_too_near() -> None:
    world = World(TEN_SECONDS)
    run = world.run(jobs(3), deadline=until(300.0, reply_s=UNKNOWN_REPLY_S))
    assert (run.exit_code, run.sent) == (3, [])
    assert run.reason is not None and "which may take 600 s, as no reply is known" in run.reason


def test_suspended_machine_does_not_move_the_deadline() -> None:
    world = World(TEN_SECONDS)
    run = world.run(jobs(50), concurrency=2, deadline=until(3600.0, reply_s=12.0, jump=4000.0))
    assert run.exit_code == 3
    assert max(at for at, _, _ in run.sent) <= 31
    assert run.took_s < 80


def test_run_that_waits_ends_at_the_deadline() -> None:
    world = World(SimulatorSettings(first_token_s=1.0, outages=(Outage(from_s=5.0, to_s=1e6, kind="503"),)))
    run = world.run(jobs(50), concurrency=2, deadline=until(1000.0, reply_s=10.0))
    assert run.exit_code == 3
    assert 985 <= run.took_s <= 1031
    (stopping,) = run.events_of(Stopping)
    assert "deadline" in stopping.reason


def test_time_of_replies_is_learned_from_this_run() -> None:
    stats = RunStats()
    reply_s, later_s = ReplyTime(stats, None), ReplyTime(stats, 40.0)
    assert (reply_s(), later_s()) == (UNKNOWN_REPLY_S, 40.0)
    for _ in range(MIN_REPLIES - 1):
        stats.replies.total.add(2.0)
    assert (reply_s(), later_s()) == (UNKNOWN_REPLY_S, 40.0)
    stats.replies.total.add(8.0)
    assert reply_s() == later_s() == pytest.approx(8.0, rel=0.02)
    stats.replies.total.add_all([2.0] * 500)
    assert reply_s() == pytest.approx(2.0, rel=0.02)
