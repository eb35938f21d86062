"""I/O steps of a whole run fail, one in each run, until a run has no fault.

After each, the next run repairs everything, and sends nothing again whose row was written.
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
from tests.support.nights_jobs import DraftJob, JobFile, draw, job_file, shaped
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
    """A mixed job file, and the same with one changed job and one repaired line."""
    rng = Random(4)
    broken = DraftJob(entry=None, raw=b"{broken", code="invalid_json")
    drafts = [*(draw(rng, number) for number in range(8)), broken, shaped(rng, "twice", "Once?"), broken]
    drafts.append(shaped(rng, "twice", "Twice?"))
    first = job_file(drafts)
    named = next(at for at, draft in enumerate(drafts) if draft.custom_id and draft.body)
    drafts[named] = shaped(rng, drafts[named].custom_id, "Edited?")
    drafts[drafts.index(broken)] = shaped(rng, "mended", "Mended?")
    return first, job_file(drafts)


FIRST, SECOND = files()


class Play:
    """A killed run, then a run in which a step fails, then an undisturbed one."""

    def __init__(self) -> None:
        settings = replace(FAST_PROVIDER, models=("m",), faults=Faults({"error_500": 0.1, "cut": 0.1}), seed=9)
        self.world = World(settings)
        self.audit = audit.Audit(self.world)

    def run(
        self, file: JobFile, *, fault_plan: FaultPlan | None = None, fails: bool = False, killed_s: float = 1e9
    ) -> RunRecord:
        options = RunOptions(resend_changed=True, retry_failed=True)
        asked = audit.RunConditions(
            concurrency=3,
            max_attempts=2,
            limit=None,
            resend=True,
            retry_failed=True,
            disk_fails=fails,
            stopped=False,
            synced_within_s=1.01,
        )
        before = audit.StateBefore.of(self.world)
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


SAID = {"no_space": "no space left on device", "io_error": "input/output error", "read_only": "read-only file system"}


@pytest.mark.parametrize(
    "stride", [pytest.param(40, id="every_fortieth_step"), pytest.param(1, id="every_step", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", FAULTS)
def test_run_after_a_failed_io_step_repairs_everything(kind: str, stride: int) -> None:
    steps = 0
    for step, play, run in every_step(kind, stride):
        steps = step
        if kind in SAID and run.steps >= step:
            check_end(run, SAID[kind])
        check_recovery(kind, step, play, run)
    assert steps > 40


def check_end(run: RunRecord, said: str) -> None:
    """The run ends with one line that names the error of the disk."""
    assert run.exit_code == 3 if run.sent else run.exit_code in (2, 3), run.reason
    assert run.reason
    assert run.reason.startswith("cannot ")
    assert said in run.reason


def check_recovery(kind: str, step: int, play: Play, run: RunRecord) -> None:
    if kind == "power_lost" and run.exit_code is None:
        before = play.world.disk.contents(RESULTS) or b""
        play.world.disk.lose_power(Random(step))
        play.audit.on_data_lost(before, bound_s=1.01)
    again = play.run(SECOND)
    assert again.exit_code == 1, "the file has broken lines"
    last = play.run(SECOND)
    # Failed jobs are sent again in every run because of retry_failed.
    failed = [row["custom_id"] for row in play.world.failures() if not audit.is_of_line(row)]
    assert {name for _, name, _ in last.sent} <= set(failed), "nothing else is left to do"
