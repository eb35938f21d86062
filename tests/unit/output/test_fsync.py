"""When rows are synced, and how a results file is closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from processor.core.errors import OutputError
from processor.output.results_file import ResultsFile
from processor.output.row_json import encode_row
from processor.output.sink import END_OF_FILE, FsyncMode
from processor.simulator.fault_injecting_storage import (
    DiskState,
)
from processor.simulator.virtual_clock import run
from tests.support.results_samples import (
    OUT,
    ids,
    open_results,
    reply,
    write_results,
)

T = TypeVar("T")


@pytest.mark.parametrize(("mode", "synced_at"), [("always", 0.0), ("interval", 2.0), ("never", None)])
def test_row_is_synced_within_the_fsync_interval(mode: FsyncMode, synced_at: float | None) -> None:
    disk_state = DiskState()

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        synced: list[float] = []

        def plan(_: int, operation: str) -> None:
            if operation == "fsync":
                synced.append(loop.time())

        journal = open_results(disk_state, plan, fsync=mode, fsync_interval_s=2.0)
        synced.clear()
        began = loop.time()
        for number in range(20):
            await journal.append(reply(str(number)))
            if mode == "always":
                assert disk_state.names[OUT].synced.endswith(encode_row(reply(str(number))))
            await asyncio.sleep(0.5)
        times = [at - began for at in synced]
        await journal.close()
        return times

    times = run(main())
    if synced_at is None:
        assert times == []
    elif mode == "always":
        assert len(times) == 20
    else:
        assert 4 <= len(times) <= 5
        assert all(later - earlier < 2.6 for earlier, later in zip([0.0, *times], times, strict=False))


def test_fsync_always_shares_one_fsync_among_rows_of_one_write() -> None:
    disk_state = DiskState()
    synced: list[bool] = []

    def plan(_: int, operation: str) -> None:
        synced.append(operation == "fsync")

    async def main() -> None:
        async with open_results(disk_state, plan, fsync="always") as journal:
            synced.clear()
            await asyncio.gather(*(journal.append(reply(str(number))) for number in range(50)))
            assert sum(synced) == 1

    run(main())


def test_close_writes_and_syncs_pending_rows() -> None:
    disk_state = DiskState()

    async def main() -> float:
        journal = open_results(disk_state, fsync_interval_s=1000.0)
        task = asyncio.ensure_future(journal.append(reply("a")))
        await asyncio.sleep(0)
        await journal.close()
        await task
        await journal.close()
        with pytest.raises(OutputError, match="closed"):
            await journal.append(reply("b"))
        return asyncio.get_running_loop().time()

    assert run(main()) < 1
    assert disk_state.names[OUT].synced == encode_row(reply("a"))


def test_cancelled_close_goes_on_and_keeps_the_lock(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    slow = threading.Event()

    async def run_in_thread(work: Callable[[], T]) -> T:
        await asyncio.to_thread(slow.wait, 5)
        return await asyncio.to_thread(work)

    async def main() -> None:
        journal = ResultsFile.open(out, run_in_thread=run_in_thread)
        await journal.append(reply("a"))
        task = asyncio.create_task(journal.close(END_OF_FILE))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(OutputError, match="another run"):
            ResultsFile.open(out)
        slow.set()
        await journal.close()
        ResultsFile.open(out)

    asyncio.run(main())


def test_unsynced_rows_of_a_killed_run_are_synced_by_the_next_run() -> None:
    for seed in range(10):
        disk_state = DiskState()

        async def killed(disk_state: DiskState = disk_state) -> None:
            await open_results(disk_state, fsync="never").append(reply("a"))

        run(killed())
        disk_state.release_locks()
        assert write_results(disk_state).recovered.replied == 1
        disk_state.lose_power(Random(seed))
        assert ids(disk_state.contents(OUT)) == ["a"]
