"""Whatever step fails, wherever the process is killed, whenever the power goes: the next run puts everything right."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
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
    refusal,
)
from processor.simulator.virtual_clock import inline, run
from tests.support.results_samples import (
    DAMAGED,
    ERRORS,
    OUT,
    Provider,
    SmallRun,
    bad_line,
    failure,
    print_of,
    reply,
    rows,
)

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
    + encode_row(bad_line(3, "gone"))
    + encode_row(failure("c"))[:-20],
}


@dataclass
class World:
    """A disk, a provider and a job file, over several runs."""

    platter: DiskState
    provider: Provider
    at_once: int = 3
    fsync: FsyncMode = "interval"

    def run(self, plan: FaultPlan | None = None) -> tuple[SmallRun, FaultInjectingStorage, BaseException | None]:
        small = SmallRun(JOBS, self.provider, at_once=self.at_once, resend=True)
        disk = FaultInjectingStorage(self.platter, plan)

        async def main():
            await small(ResultsFile.open(OUT, storage=disk, run_in_thread=inline, fsync=self.fsync))

        try:
            run(main())
        except (OutputError, Killed) as error:
            return small, disk, error
        return small, disk, None


def world(before: dict = BEFORE, **more) -> World:
    made = World(DiskState(), Provider(refuses=["d"]), **more)
    for path, data in before.items():
        made.platter.put(path, data)
    return made


def check(platter: DiskState) -> None:
    """Promise 1, read from the files alone."""
    replies, failures = rows(platter.contents(OUT)), rows(platter.contents(ERRORS))
    answered = {row["custom_id"]: row for row in replies}
    assert sorted(answered) == ["a", "b", "c", "e", "f"]
    assert len(replies) == len(answered)
    requests = {name: request for name, request in JOBS if name}
    for name, row in answered.items():
        assert row["id"] == print_of(requests[name])
        assert row["response"]["body"]["text"] == f"reply to {requests[name]}"
    assert sorted((row["line"], row["error"]["code"]) for row in failures) == [
        (3, "invalid_json"),
        (5, "duplicate_custom_id"),
        (6, "rejected"),
    ]


FAULTS = {
    "no space": lambda: StorageFault(refusal(errno.ENOSPC)),
    "no space after a part": lambda: StorageFault(refusal(errno.ENOSPC), 0.6),
    "input/output error": lambda: StorageFault(refusal(errno.EIO)),
    "done, but told otherwise": lambda: StorageFault(refusal(errno.EIO), 1.0),
    "read only": lambda: StorageFault(refusal(errno.EROFS)),
    "short write": lambda: StorageFault(None, 0.5),
    "killed before": lambda: StorageFault(Killed()),
    "killed in the middle": lambda: StorageFault(Killed(), 0.5),
    "killed after": lambda: StorageFault(Killed(), 1.0),
}


EVERY_STEP = pytest.mark.parametrize(
    "stride", [pytest.param(4, id="every_fourth_step"), pytest.param(1, id="every_step", marks=pytest.mark.slow)]
)
"""A run has about 50 steps; the everyday tests fail every fourth of them."""


@EVERY_STEP
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("before", [{}, BEFORE], ids=["fresh", "found in disorder"])
def test_every_step_fails_once_and_the_next_run_ends_with_everything_right(fault, before, stride):
    for step in range(1 + len(fault) % stride, 1000, stride):
        night = world(before)
        small, disk, error = night.run(fail_at_step(step, FAULTS[fault]()))
        if disk.steps < step:
            break
        written = set(small.written)
        in_flight = 0 if error is None else night.at_once
        first = sum(night.provider.sent.values())
        if error is None:
            assert fault == "short write"
        else:
            again, _, error = night.run()
            assert error is None
            assert not written & set(again.written), "what was written is not sent again"
            more = sum(night.provider.sent.values()) - first
            assert more <= 6 - len(written) and more + first <= 6 + in_flight
        check(night.platter)
        if before:
            assert b"{damaged" in (night.platter.contents(DAMAGED) or b"").splitlines()
    assert disk.steps > (40 if before else 20)


@EVERY_STEP
def test_every_step_fails_once_with_power_lost_at_it(stride):
    for step in range(1, 1000, stride):
        night = world(fsync="always")
        small, disk, _ = night.run(fail_at_step(step, StorageFault(Killed(), 0.5)))
        if disk.steps < step:
            return
        night.platter.lose_power(Random(step))
        again, _, error = night.run()
        assert error is None
        assert not set(small.written) & set(again.written), "what was synced is not sent again"
        check(night.platter)


@pytest.mark.parametrize("seed", range(60))
def test_seeded_runs_of_faults_kills_and_power_cuts_end_with_everything_right(seed):
    chance = Random(seed)
    night = world(at_once=chance.randint(1, 6), fsync=chance.choice(("always", "interval", "never")))
    sent = set()
    for _ in range(chance.randint(1, 6)):
        rate = chance.choice((0.01, 0.05, 0.2))

        def plan(step: int, operation: str, rate=rate) -> StorageFault | None:
            return chance.choice(list(FAULTS.values()))() if chance.random() < rate else None

        small, _, _ = night.run(plan)
        powerless = chance.random() < 0.3
        if powerless:
            night.platter.lose_power(chance)
        assert not sent & set(small.written), "what was written is not sent again"
        sent |= set(small.written)
        if powerless and night.fsync != "always":
            sent.clear()
    assert night.run()[2] is None
    check(night.platter)
    before = {path: night.platter.contents(path) for path in night.platter.names}
    assert night.run()[2] is None
    assert {path: night.platter.contents(path) for path in night.platter.names} == before


def test_after_power_loss_only_rows_younger_than_the_fsync_bound_are_missing():
    async def main(disk: FaultInjectingStorage, written: list[tuple[float, str]]):
        journal = ResultsFile.open(OUT, storage=disk, run_in_thread=inline, fsync_interval_s=1.0)
        for number in range(100):
            await journal.append(reply(str(number)))
            written.append((asyncio.get_running_loop().time(), str(number)))
            await asyncio.sleep(0.07)

    for step in range(20, 100, 9):
        platter = DiskState()
        written: list[tuple[float, str]] = []
        with pytest.raises(Killed):
            run(main(FaultInjectingStorage(platter, fail_at_step(step, StorageFault(Killed()))), written))
        platter.lose_power(Random(step))
        journal = ResultsFile.open(OUT, storage=FaultInjectingStorage(platter), run_in_thread=inline)
        end = written[-1][0]
        kept = {name for _, name in written if journal.job_index.attempts(name)}
        assert {name for at, name in written if at <= end - 1.01} <= kept


def _ids(data: bytes) -> set[str]:
    return {row["custom_id"] for row in rows(data.rpartition(b"\n")[0])}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cut_both_files_at_any_byte_and_nothing_is_lost_and_nothing_done_twice(data):
    done = world({})
    done.run()
    before = {path: done.platter.contents(path) or b"" for path in (OUT, ERRORS)}
    cut = {path: whole[: data.draw(st.integers(0, len(whole)))] for path, whole in before.items()}
    night = world(cut)
    assert night.run()[2] is None
    check(night.platter)
    assert not set(night.provider.sent) & (_ids(cut[OUT]) | _ids(cut[ERRORS]) - {"a"})


def test_the_disk_in_memory_would_notice_a_missing_fsync():
    """Without it, whole nights of lost power above would show nothing."""
    lost = 0
    for seed in range(20):
        platter = DiskState()

        async def main(platter=platter):
            journal = ResultsFile.open(OUT, storage=FaultInjectingStorage(platter), run_in_thread=inline, fsync="never")
            for number in range(5):
                await journal.append(reply(str(number)))

        run(main())
        platter.lose_power(Random(seed))
        lost += 5 - len(rows((platter.contents(OUT) or b"").rpartition(b"\n")[0].replace(b"\0", b"")))
    assert lost
