"""Every I/O step of a whole run fails once: the first, then the second, … until a run gets through untouched.

After each, the next run ends with everything right, and nothing is sent again that was written.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import pytest

from processor.retry.policy import RetryPolicy
from processor.scheduler import RunOptions
from processor.simulator.fault_injecting_storage import FaultPlan, Killed, StorageFault, fail_at_step, os_error
from processor.simulator.faults import Faults
from tests.support import nights_audit as audit
from tests.support.nights_jobs import JobFile, Sketch, draw, job_file, shaped
from tests.support.scheduler_world import FAST_PROVIDER, RESULTS, RunRecord, World, kill_at

FAULTS: dict[str, Callable[[], StorageFault]] = {
    "no_space": lambda: StorageFault(os_error(errno.ENOSPC)),
    "half_written_no_space": lambda: StorageFault(os_error(errno.ENOSPC), 0.5),
    "io_error": lambda: StorageFault(os_error(errno.EIO)),
    "read_only": lambda: StorageFault(os_error(errno.EROFS)),
    "short_write": lambda: StorageFault(None, 0.5),
    "killed": lambda: StorageFault(Killed()),
    "killed_when_done": lambda: StorageFault(Killed(), 1.0),
    "power_lost": lambda: StorageFault(Killed(), 0.5),
}


def files() -> tuple[JobFile, JobFile]:
    """A mixed job file, and the same with one job that asks something else and one line that is right now."""
    rng = Random(4)
    broken = Sketch(entry=None, raw=b"{broken", code="invalid_json")
    sketches = [*(draw(rng, number) for number in range(8)), broken, shaped(rng, "twice", "Once?"), broken]
    sketches.append(shaped(rng, "twice", "Twice?"))
    first = job_file(sketches)
    named = next(at for at, sketch in enumerate(sketches) if sketch.custom_id and sketch.body)
    sketches[named] = shaped(rng, sketches[named].custom_id, "Edited?")
    sketches[sketches.index(broken)] = shaped(rng, "mended", "Mended?")
    return first, job_file(sketches)


FIRST, SECOND = files()


class Play:
    """A killed run has left something; then comes the run whose steps fail; then one that is left in peace."""

    def __init__(self) -> None:
        settings = replace(FAST_PROVIDER, models=("m",), faults=Faults({"error_500": 0.1, "cut": 0.1}), seed=9)
        self.world = World(settings)
        self.audit = audit.Audit(self.world)

    def run(
        self, file: JobFile, *, fault_plan: FaultPlan | None = None, fails: bool = False, killed_s: float = 1e9
    ) -> RunRecord:
        options = RunOptions(resend_changed=True, retry_failed=True)
        asked = audit.Terms(
            concurrency=3,
            max_attempts=2,
            limit=None,
            resend=True,
            retry_failed=True,
            disk_fails=fails,
            stopped=False,
            synced_within_s=1.01,
        )
        before = audit.Before.of(self.world)
        self.audit.expect(file)
        run = self.world.run(
            file.data,
            options=options,
            policy=RetryPolicy(max_attempts=2),
            concurrency=3,
            fault_plan=fault_plan,
            on_start=kill_at(killed_s),
            max_line_bytes=4000,
        )
        self.audit.check_run(run, file, asked, before)
        return run


def every_step(kind: str, stride: int = 1) -> Iterator[tuple[int, Play, RunRecord]]:
    """Fails every step, or every `stride`-th. Ends with the first run that had no fault."""
    for step in range(1 + len(kind) % stride, 1000, stride):
        play = Play()
        play.run(FIRST, killed_s=4.0)
        run = play.run(
            SECOND, fault_plan=fail_at_step(step, FAULTS[kind]()), fails="killed" not in kind and kind != "power_lost"
        )
        yield step, play, run
        if run.steps < step:
            return
    raise AssertionError("no run ends without a fault")


SAID = {"no_space": "No space left on device", "io_error": "Input/output error", "read_only": "Read-only file system"}


@pytest.mark.parametrize(
    "stride", [pytest.param(6, id="every_sixth_step"), pytest.param(1, id="every_step", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", FAULTS)
def test_run_after_a_failed_io_step_repairs_everything(kind: str, stride: int) -> None:
    steps = 0
    for step, play, run in every_step(kind, stride):
        steps = step
        if kind in SAID and run.steps >= step:
            check_end(run, SAID[kind])
        put_right(kind, step, play, run)
    assert steps > 40


def check_end(run: RunRecord, said: str) -> None:
    """The run has met a failing disk: it ends with one clear line."""
    assert run.exit_code == 3 if run.sent else run.exit_code in (2, 3), run.reason
    assert run.reason
    assert run.reason.startswith("cannot ")
    assert said in run.reason


def put_right(kind: str, step: int, play: Play, run: RunRecord) -> None:
    if kind == "power_lost" and run.exit_code is None:
        before = play.world.disk.contents(RESULTS) or b""
        play.world.disk.lose_power(Random(step))
        play.audit.lost(before, bound_s=1.01)
    again = play.run(SECOND)
    assert again.exit_code == 1, "the file has broken lines"
    last = play.run(SECOND)
    # What failed is tried again in every run, because it was asked to be.
    failed = [row["custom_id"] for row in play.world.failures() if not audit.is_of_line(row)]
    assert {name for _, name, _ in last.sent} <= set(failed), "nothing else is left to do"
