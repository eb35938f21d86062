"""A failing disk stops the run with one clear line; once it is repaired, the same command continues."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from random import Random

import pytest

from processor.scheduler import RunOptions, Scheduler
from processor.simulator.fault_injecting_storage import (
    UNLIMITED_BYTES,
    FaultPlan,
    Killed,
    StorageFault,
    fail_at_step,
    os_error,
)
from tests.support.scheduler_world import FAST_PROVIDER, RESULTS, OnStart, RunRecord, World, short_job
from tests.support.slow_cases import slow_except

JOBS = [short_job(number) for number in range(60)]


def call_at(at: float, action: Callable[[], None]) -> OnStart:
    def on_start(run: Scheduler) -> None:
        asyncio.get_running_loop().call_at(at, action)

    return on_start


def assert_next_run_continues(world: World, run: RunRecord) -> None:
    """The next run sends the jobs without a row, and no others."""
    kept = len(world.rows())
    again = world.run(JOBS)
    assert again.exit_code == 0
    assert len(again.sent) == 60 - kept
    assert len(world.rows()) == 60
    assert world.provider.billing.completed <= 60 + len(run.left_in_flight)


def test_full_disk_stops_the_run_and_the_next_run_continues() -> None:
    world = World(FAST_PROVIDER)
    world.disk.capacity_bytes = 10_000
    run = world.run(JOBS)
    assert (run.exit_code, run.reason) == (
        3,
        "cannot write /out/results.jsonl: no space left on device; free some space",
    )
    assert 0 < len(world.rows()) < 60
    assert len(run.left_in_flight) <= 8
    still_full = world.run(JOBS)
    assert (still_full.exit_code, still_full.sent) == (2, [])
    world.disk.capacity_bytes = UNLIMITED_BYTES
    assert_next_run_continues(world, run)


@pytest.mark.parametrize("operation", ["write", "fsync", "pwrite"])
def test_disk_error_during_the_run_stops_it_at_once(operation: str) -> None:
    world, failing = World(FAST_PROVIDER), [False]

    def plan(number: int, step: str) -> StorageFault | None:
        return StorageFault(os_error(errno.EIO)) if failing[0] and step == operation else None

    run = world.run(JOBS, fault_plan=plan, on_start=call_at(1.5, lambda: failing.__setitem__(0, True)))
    assert run.exit_code == 3
    assert run.reason and "input/output error" in run.reason
    assert run.took_s < 5
    assert_next_run_continues(world, run)


def test_nothing_is_sent_if_the_disk_is_read_only() -> None:
    read_only: FaultPlan = lambda number, step: StorageFault(os_error(errno.EROFS))  # noqa: E731
    run = World(FAST_PROVIDER).run(JOBS, fault_plan=read_only)
    assert (run.exit_code, run.sent) == (2, [])
    said = "cannot write /out/results.jsonl.state: read-only file system"
    assert run.reason == f"{said}; give another --out, in a folder that you may write to"


def test_deleted_results_file_stops_the_run() -> None:
    world = World(FAST_PROVIDER)
    run = world.run(JOBS, on_start=call_at(1.5, lambda: world.disk.delete(RESULTS)))
    assert run.exit_code == 3
    assert run.reason and run.reason.startswith("cannot write /out/results.jsonl: ")
    assert world.run(JOBS).exit_code == 0
    assert len(world.rows()) == 60


@pytest.mark.parametrize("step", slow_except(range(1, 60), *range(2, 60, 5)))
def test_unsynced_files_of_a_killed_run_are_durable_after_the_next_run(step: int) -> None:
    """Killed at every step: while the file, its name, its rows or its compacted copy were not synced yet."""
    world = World(FAST_PROVIDER)
    world.run(JOBS[:5])
    edited = [{**JOBS[0], "prompt": "Edited?"}, *JOBS[1:10]]
    world.run(
        edited, options=RunOptions(resend_changed=True), fault_plan=fail_at_step(step, StorageFault(Killed(), 1.0))
    )
    run = world.run(edited, options=RunOptions(resend_changed=True))
    rows = world.rows()
    world.disk.lose_power(Random(step))
    assert run.exit_code == 0
    assert world.rows() == rows


def test_second_run_on_the_same_results_file_is_refused() -> None:
    world = World(FAST_PROVIDER)
    errors: list[str] = []
    run = world.run(JOBS, on_start=call_at(1.0, lambda: errors.append(world.error_for_second_writer())))
    assert run.exit_code == 0
    assert errors == ["another run is writing to /out/results.jsonl: wait for it, or give another --out"]
