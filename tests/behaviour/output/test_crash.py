"""Faults, kills and power losses at every I/O step: the next run repairs the files and completes."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import OutputError
from processor.output.results_file import ResultsFile
from processor.output.row_json import encode_row
from processor.output.sink import FsyncMode
from processor.simulator.fault_injecting_storage import (
    DiskState,
    FaultInjectingStorage,
    FaultPlan,
    Killed,
    StorageFault,
    fail_at_step,
    os_error,
)
from processor.simulator.virtual_clock import inline, run
from tests.support.results_samples import (
    DAMAGED,
    ERRORS,
    OUT,
    MiniRun,
    Provider,
    failure,
    fingerprint_of,
    invalid_line,
    reply,
    rows,
)
from tests.support.slow_cases import slow_except

pytestmark = pytest.mark.sampled

JOBS = [("a", "1"), ("b", "2"), (None, "{"), ("c", "3"), ("a", "1"), ("d", "4"), ("e", "5"), ("f", "6")]
"""``b`` has an old reply, to another request; ``c`` has failed before; ``d`` is refused."""

BEFORE = {
    OUT: encode_row(reply("b", "old"))
    + b"{damaged\n"
    + encode_row(reply("e", "first"))
    + encode_row(reply("e", "reply to 5", request="5"))
    + encode_row(reply("f"))[:50],
    ERRORS: encode_row(failure("c", attempts=3))
    + encode_row(failure("e"))
    + encode_row(invalid_line(3, "gone"))
    + encode_row(failure("c"))[:-20],
}


@dataclass
class World:
    """A disk and a provider that outlive several runs of one job file."""

    disk_state: DiskState
    provider: Provider
    concurrency: int = 3
    fsync: FsyncMode = "interval"

    def run(self, plan: FaultPlan | None = None) -> tuple[MiniRun, FaultInjectingStorage, BaseException | None]:
        small = MiniRun(JOBS, self.provider, concurrency=self.concurrency, resend=True)
        storage = FaultInjectingStorage(self.disk_state, plan)

        async def main() -> None:
            await small(ResultsFile.open(OUT, storage=storage, run_in_thread=inline, fsync=self.fsync))

        try:
            run(main())
        except (OutputError, Killed) as error:
            return small, storage, error
        return small, storage, None


def new_world(before: dict[Path, bytes] = BEFORE, **options: Any) -> World:
    world = World(DiskState(), Provider(refuses=["d"]), **options)
    for path, data in before.items():
        world.disk_state.put(path, data)
    return world


def check(disk_state: DiskState) -> None:
    """Check, from the files alone, that every job has exactly one row."""
    replies, failures = rows(disk_state.contents(OUT)), rows(disk_state.contents(ERRORS))
    answered = {row["custom_id"]: row for row in replies}
    assert sorted(answered) == ["a", "b", "c", "e", "f"]
    assert len(replies) == len(answered)
    requests = {name: request for name, request in JOBS if name}
    for name, row in answered.items():
        assert row["id"] == fingerprint_of(requests[name])
        assert row["response"]["body"]["text"] == f"reply to {requests[name]}"
    assert sorted((row["line"], row["error"]["code"]) for row in failures) == [
        (3, "invalid_json"),
        (5, "duplicate_custom_id"),
        (6, "rejected"),
    ]


FAULTS = {
    "no space": lambda: StorageFault(os_error(errno.ENOSPC)),
    "no space after a part": lambda: StorageFault(os_error(errno.ENOSPC), 0.6),
    "input/output error": lambda: StorageFault(os_error(errno.EIO)),
    "done, but reported as failed": lambda: StorageFault(os_error(errno.EIO), 1.0),
    "read only": lambda: StorageFault(os_error(errno.EROFS)),
    "short write": lambda: StorageFault(None, 0.5),
    "killed before": lambda: StorageFault(Killed()),
    "killed in the middle": lambda: StorageFault(Killed(), 0.5),
    "killed after": lambda: StorageFault(Killed(), 1.0),
}


EVERY_STEP = pytest.mark.parametrize(
    "stride", [pytest.param(25, id="every_twenty_fifth_step"), pytest.param(1, id="every_step", marks=pytest.mark.slow)]
)
"""A run has about 50 steps. Tests that are not slow fail every twenty-fifth of them."""


@EVERY_STEP
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("before", [{}, BEFORE], ids=["fresh", "after a crash"])
def test_next_run_completes_after_a_fault_at_any_step(fault: str, before: dict[Path, bytes], stride: int) -> None:
    for step in range(1 + len(fault) % stride, 1000, stride):
        world = new_world(before)
        small, storage, error = world.run(fail_at_step(step, FAULTS[fault]()))
        if storage.steps < step:
            break
        written = set(small.written)
        in_flight = 0 if error is None else world.concurrency
        first = sum(world.provider.sent.values())
        if error is None:
            assert fault == "short write"
        else:
            again, _, error = world.run()
            assert error is None
            assert not written & set(again.written), "a job with a written row is not sent again"
            more = sum(world.provider.sent.values()) - first
            assert more <= 6 - len(written) and more + first <= 6 + in_flight
        check(world.disk_state)
        if before:
            assert b"{damaged" in (world.disk_state.contents(DAMAGED) or b"").splitlines()
    assert storage.steps > (40 if before else 20)


@EVERY_STEP
def test_next_run_completes_after_power_loss_at_any_step(stride: int) -> None:
    for step in range(1, 1000, stride):
        world = new_world(fsync="always")
        small, storage, _ = world.run(fail_at_step(step, StorageFault(Killed(), 0.5)))
        if storage.steps < step:
            return
        world.disk_state.lose_power(Random(step))
        again, _, error = world.run()
        assert error is None
        assert not set(small.written) & set(again.written), "a job with a synced row is not sent again"
        check(world.disk_state)


@pytest.mark.parametrize("seed", slow_except(range(60), *range(8)))
def test_runs_with_random_faults_kills_and_power_losses_end_complete(seed: int) -> None:
    chance = Random(seed)
    world = new_world(concurrency=chance.randint(1, 6), fsync=chance.choice(("always", "interval", "never")))
    sent: set[str] = set()
    for _ in range(chance.randint(1, 6)):
        rate = chance.choice((0.01, 0.05, 0.2))

        def plan(step: int, operation: str, rate: float = rate) -> StorageFault | None:
            return chance.choice(list(FAULTS.values()))() if chance.random() < rate else None

        small, _, _ = world.run(plan)
        lost_power = chance.random() < 0.3
        if lost_power:
            world.disk_state.lose_power(chance)
        assert not sent & set(small.written), "a job with a written row is not sent again"
        sent |= set(small.written)
        if lost_power and world.fsync != "always":
            sent.clear()
    assert world.run()[2] is None
    check(world.disk_state)
    before = {path: world.disk_state.contents(path) for path in world.disk_state.names}
    assert world.run()[2] is None
    assert {path: world.disk_state.contents(path) for path in world.disk_state.names} == before


def test_power_loss_drops_only_rows_younger_than_the_fsync_interval() -> None:
    async def main(storage: FaultInjectingStorage, written: list[tuple[float, str]]) -> None:
        journal = ResultsFile.open(OUT, storage=storage, run_in_thread=inline, fsync_interval_s=1.0)
        for number in range(100):
            await journal.append(reply(str(number)))
            written.append((asyncio.get_running_loop().time(), str(number)))
            await asyncio.sleep(0.07)

    for step in range(20, 100, 9):
        disk_state = DiskState()
        written: list[tuple[float, str]] = []
        with pytest.raises(Killed):
            run(main(FaultInjectingStorage(disk_state, fail_at_step(step, StorageFault(Killed()))), written))
        disk_state.lose_power(Random(step))
        journal = ResultsFile.open(OUT, storage=FaultInjectingStorage(disk_state), run_in_thread=inline)
        end = written[-1][0]
        kept = {name for _, name in written if journal.job_index.attempts(name)}
        assert {name for at, name in written if at <= end - 1.01} <= kept


def _ids(data: bytes) -> set[str]:
    return {row["custom_id"] for row in rows(data.rpartition(b"\n")[0])}


@given(st.data())
def test_files_cut_at_any_byte_lose_no_job_and_send_none_twice(data: st.DataObject) -> None:
    finished = new_world({})
    finished.run()
    before = {path: finished.disk_state.contents(path) or b"" for path in (OUT, ERRORS)}
    cut = {path: whole[: data.draw(st.integers(0, len(whole)))] for path, whole in before.items()}
    world = new_world(cut)
    assert world.run()[2] is None
    check(world.disk_state)
    assert not set(world.provider.sent) & (_ids(cut[OUT]) | _ids(cut[ERRORS]) - {"a"})


def test_power_loss_without_fsync_loses_rows_in_memory_storage() -> None:
    """The tests with power loss above depend on this."""
    lost = 0
    for seed in range(20):
        disk_state = DiskState()

        async def main(disk_state: DiskState = disk_state) -> None:
            journal = ResultsFile.open(
                OUT, storage=FaultInjectingStorage(disk_state), run_in_thread=inline, fsync="never"
            )
            for number in range(5):
                await journal.append(reply(str(number)))

        run(main())
        disk_state.lose_power(Random(seed))
        lost += 5 - len(rows((disk_state.contents(OUT) or b"").rpartition(b"\n")[0].replace(b"\0", b"")))
    assert lost
