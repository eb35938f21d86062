"""When and how appended rows are written, and what errors do."""

from __future__ import annotations

import asyncio
import errno
import itertools

import pytest

from processor.core.errors import OutputError
from processor.output.sink import END_OF_FILE
from processor.simulator.fault_injecting_storage import (
    DiskState,
    FaultPlan,
    StorageFault,
    os_error,
)
from processor.simulator.virtual_clock import run
from tests.support.results_samples import (
    ERRORS,
    OUT,
    STATE,
    failure,
    ids,
    open_results,
    reply,
    rows,
    write_results,
)


def test_rows_of_one_loop_iteration_share_a_write() -> None:
    disk_state = DiskState()
    writes: list[str] = []

    def plan(_: int, operation: str) -> None:
        writes.append(operation)

    async def main() -> None:
        journal = open_results(disk_state, plan)
        writes.clear()
        await asyncio.gather(*(journal.append(reply(str(number))) for number in range(50)))
        assert writes == ["write"]
        await journal.close()

    run(main())
    assert len(rows(disk_state.contents(OUT))) == 50


def written_at(in_flight: str, appended: dict[str, float], idle: str = "") -> list[float]:
    """Return when rows are written that are appended at these times, while jobs are in flight or idle."""
    times: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def plan(_: int, operation: str) -> None:
            if operation == "write":
                times.append(round(loop.time() - began, 3))

        async def append(name: str, at: float) -> None:
            await asyncio.sleep(at)
            await journal.append(reply(name))

        journal, began = open_results(DiskState(), plan), loop.time()
        for name in in_flight + idle:
            journal.record_in_flight(name, 1)
        for name in idle:
            journal.clear_in_flight(name, 1)
        await asyncio.gather(*(append(name, at) for name, at in appended.items()))
        await journal.close()

    run(main())
    return times


def test_rows_within_20_ms_share_a_write_while_others_are_in_flight() -> None:
    assert written_at("abcdef", {"a": 0.0, "b": 0.001, "c": 0.015, "d": 0.03}) == [0.0, 0.02, 0.04]


def test_single_row_is_written_at_once() -> None:
    assert written_at("abcdef", {"a": 0.0, "b": 0.1, "c": 0.3}) == [0.0, 0.1, 0.3]


@pytest.mark.parametrize("idle", ["", "xyz"])
def test_last_rows_in_flight_are_written_at_once(idle: str) -> None:
    assert written_at("abc", {"a": 0.0, "b": 0.001, "c": 0.002}, idle) == [0.0, 0.002]


def test_cancelled_append_still_writes_its_row() -> None:
    disk_state = DiskState()

    async def main() -> None:
        async with open_results(disk_state) as journal:

            async def append() -> None:
                await journal.append(reply("a"))

            journal.record_in_flight("a", 1)
            task = asyncio.create_task(append())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())
    assert ids(disk_state.contents(OUT)) == ["a"]
    assert disk_state.contents(STATE) == b""


def test_short_writes_are_completed() -> None:
    disk_state = DiskState()
    plan = lambda _, operation: StorageFault(None, 0.4) if operation == "write" else None  # noqa: E731

    async def main() -> None:
        async with open_results(disk_state, plan) as journal:
            await asyncio.gather(*(journal.append(reply(name, "x" * 500)) for name in "abc"))

    run(main())
    assert ids(disk_state.contents(OUT)) == ["a", "b", "c"]


@pytest.mark.parametrize("capacity_bytes", range(0, 1300, 97))
def test_full_disk_keeps_whole_rows_and_raises_for_the_others(capacity_bytes: int) -> None:
    disk_state = DiskState()

    async def main() -> tuple[list[str], list[BaseException | None]]:
        journal = open_results(disk_state)
        disk_state.capacity_bytes = capacity_bytes
        outcomes = await asyncio.gather(
            *(journal.append(reply(name, "x" * 50)) for name in "abcd"),
            journal.append(failure("e")),
            return_exceptions=True,
        )
        assert journal.free_bytes() == disk_state.free_bytes()
        disk_state.capacity_bytes = 1 << 20
        with pytest.raises(OutputError, match="no space left"):
            await journal.append(reply("later"))
        with pytest.raises(OutputError, match=r"cannot write /out/results.*: no space left on device"):
            await journal.close(END_OF_FILE)
        return [name for name, outcome in zip("abcde", outcomes, strict=True) if outcome is None], outcomes

    written, outcomes = run(main())
    assert ids(disk_state.contents(OUT)) + ids(disk_state.contents(ERRORS)) == written
    assert all(isinstance(outcome, OutputError) for outcome in outcomes if outcome is not None)
    journal = write_results(disk_state, *(reply(name) for name in "abcde" if name not in written))
    assert journal.recovered.replied + journal.recovered.failed == len(written)


def fail_fsync_after_the_first() -> FaultPlan:
    """Return a plan that lets the fsync at the opening pass."""
    counted = itertools.count()

    def plan(_: int, operation: str) -> StorageFault | None:
        return StorageFault(os_error(errno.EIO)) if operation == "fsync" and next(counted) else None

    return plan


def test_failed_fsync_raises_in_the_next_call() -> None:
    disk_state = DiskState()
    plan = fail_fsync_after_the_first()

    async def main() -> None:
        journal = open_results(disk_state, plan)
        await journal.append(reply("a"))
        await asyncio.sleep(5)
        with pytest.raises(OutputError, match="input/output error"):
            journal.record_in_flight("b", 1)
        with pytest.raises(OutputError):
            await journal.close()

    run(main())
    assert open_results(disk_state).recovered.replied == 1


def test_failed_fsync_raises_in_the_appends_that_wait_for_it() -> None:
    plan = fail_fsync_after_the_first()

    async def main() -> None:
        journal = open_results(DiskState(), plan, fsync="always")
        outcomes = await asyncio.gather(*(journal.append(reply(n)) for n in "ab"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [OutputError, OutputError]

    run(main())


@pytest.mark.parametrize("operation", ["record_in_flight", "clear_in_flight", "append"])
def test_unwritable_state_file_raises_in_the_next_call(operation: str) -> None:
    disk_state = DiskState()

    async def main() -> None:
        failing = False

        def plan(_: int, step: str) -> StorageFault | None:
            return StorageFault(os_error(errno.EIO)) if failing and step == "pwrite" else None

        journal = open_results(disk_state, plan)
        journal.record_in_flight("a", 1)
        failing = True
        if operation == "clear_in_flight":
            journal.clear_in_flight("a", 1)
        elif operation == "append":
            await journal.append(reply("a"))
        with pytest.raises(OutputError, match=r"results.jsonl.state: input/output error"):
            journal.record_in_flight("b", 1)

    run(main())


def test_error_of_the_run_is_not_hidden_by_an_error_of_close() -> None:
    async def main() -> None:
        async with open_results(DiskState(), fail_fsync_after_the_first()) as journal:
            await journal.append(reply("a"))
            raise KeyError("the run's own")

    with pytest.raises(KeyError):
        run(main())


def test_full_disk_is_found_before_the_first_request_is_recorded() -> None:
    """The record of a request would still fit, and the row of its reply would not."""
    disk_state = DiskState(capacity_bytes=500)

    async def main() -> None:
        journal = open_results(disk_state)
        with pytest.raises(OutputError, match=r"results.jsonl.state: no space left on device"):
            journal.record_in_flight("a", 1)
        with pytest.raises(OutputError):
            await journal.close()
        disk_state.capacity_bytes = 20_000
        again = open_results(disk_state)
        again.record_in_flight("a", 1)
        assert len(disk_state.contents(STATE) or b"") < 100

    run(main())
