"""A bad disk ends the run with one clear line; when it is mended, the same command goes on."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from random import Random

import pytest

from processor.scheduler import RunOptions, Scheduler
from processor.simulator.fault_injecting_storage import (
    PLENTY_BYTES,
    FaultPlan,
    Killed,
    StorageFault,
    fail_at_step,
    refusal,
)
from tests.support.scheduler_world import OUT, QUICK, During, Ran, World, ask

JOBS = [ask(number) for number in range(60)]


def when(at: float, do: Callable[[], None]) -> During:
    def during(run: Scheduler) -> None:
        asyncio.get_running_loop().call_at(at, do)

    return during


def goes_on(world: World, ran: Ran) -> None:
    """The next run sends what has no row, and no more."""
    kept = len(world.rows())
    again = world.run(JOBS)
    assert again.exit_code == 0
    assert len(again.sent) == 60 - kept
    assert len(world.rows()) == 60
    assert world.provider.billing.completed <= 60 + len(ran.left_in_flight)


def test_a_full_disk_ends_the_run_and_after_room_is_made_it_goes_on() -> None:
    world = World(QUICK)
    world.platter.capacity_bytes = 10_000
    ran = world.run(JOBS)
    assert (ran.exit_code, ran.reason) == (3, "cannot write /out/results.jsonl: No space left on device")
    assert 0 < len(world.rows()) < 60
    assert len(ran.left_in_flight) <= 8
    world.platter.capacity_bytes = PLENTY_BYTES
    goes_on(world, ran)


@pytest.mark.parametrize("operation", ["write", "fsync", "pwrite"])
def test_a_disk_that_fails_in_the_middle_ends_the_run_at_once(operation: str) -> None:
    world, failing = World(QUICK), [False]

    def plan(number: int, step: str) -> StorageFault | None:
        return StorageFault(refusal(errno.EIO)) if failing[0] and step == operation else None

    ran = world.run(JOBS, disk=plan, during=when(1.5, lambda: failing.__setitem__(0, True)))
    assert ran.exit_code == 3
    assert ran.reason and "Input/output error" in ran.reason
    assert ran.took_s < 5
    goes_on(world, ran)


def test_nothing_is_sent_where_nothing_can_be_written() -> None:
    read_only: FaultPlan = lambda number, step: StorageFault(refusal(errno.EROFS))  # noqa: E731
    ran = World(QUICK).run(JOBS, disk=read_only)
    assert (ran.exit_code, ran.sent) == (2, [])
    assert ran.reason == "cannot write /out/results.jsonl.state: Read-only file system"


def test_results_that_are_deleted_meanwhile_end_the_run() -> None:
    world = World(QUICK)
    ran = world.run(JOBS, during=when(1.5, lambda: world.platter.delete(OUT)))
    assert ran.exit_code == 3
    assert ran.reason and ran.reason.startswith("cannot write /out/results.jsonl: ")
    assert world.run(JOBS).exit_code == 0
    assert len(world.rows()) == 60


@pytest.mark.parametrize("step", range(1, 60))
def test_what_a_killed_run_made_and_never_synced_is_safe_after_the_next(step: int) -> None:
    """The file itself, its name, its rows, the one that was to take its place: whatever it was doing."""
    world = World(QUICK)
    world.run(JOBS[:5])
    edited = [{**JOBS[0], "prompt": "Edited?"}, *JOBS[1:10]]
    world.run(edited, options=RunOptions(resend_changed=True), disk=fail_at_step(step, StorageFault(Killed(), 1.0)))
    ran = world.run(edited, options=RunOptions(resend_changed=True))
    rows = world.rows()
    world.platter.lose_power(Random(step))
    assert ran.exit_code == 0
    assert world.rows() == rows


def test_two_runs_do_not_write_to_one_file() -> None:
    world, others = World(QUICK), []
    ran = world.run(JOBS, during=when(1.0, lambda: others.append(world.open_elsewhere())))
    assert ran.exit_code == 0
    assert others == ["another run is writing to /out/results.jsonl: wait for it, or give another --out"]
