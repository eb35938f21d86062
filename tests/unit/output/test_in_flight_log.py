"""The log of requests in flight, in the state file."""

from __future__ import annotations

import asyncio
import os

import pytest

from processor.core.errors import ConfigError
from processor.simulator.fault_injecting_storage import (
    DiskState,
)
from processor.simulator.virtual_clock import run
from tests.support.results_samples import STATE, failure, open_results, reply, write_results


def test_requests_in_flight_at_a_kill_are_counted_once_and_attempts_continue() -> None:
    disk_state = DiskState()

    async def killed() -> None:
        journal = open_results(disk_state)
        for name in ("answered", "failed", "streaming", "waiting"):
            journal.record_in_flight(name, 1)
        await journal.append(reply("answered"))
        await journal.append(failure("failed", attempts=1))
        journal.record_in_flight("waiting", 2)
        journal.clear_in_flight("waiting", 2)
        journal.record_in_flight("unsent", 4)
        journal.clear_in_flight("unsent", 3)
        journal.record_in_flight("failed", 2)

    run(killed())
    disk_state.release_locks()
    journal = open_results(disk_state)
    assert journal.recovered.possibly_billed == 2
    known = {
        name: journal.job_index.attempts(name) for name in ("answered", "failed", "streaming", "waiting", "unsent")
    }
    assert known == {"answered": 1, "failed": 2, "streaming": 1, "waiting": 2, "unsent": 3}
    run(journal.close())
    third = open_results(disk_state)
    assert third.recovered.possibly_billed == 0
    assert third.job_index.attempts("streaming") == 1
    run(third.close())
    write_results(
        disk_state,
        reply("failed", attempts=3),
        reply("streaming", attempts=2),
        reply("waiting", attempts=3),
        reply("unsent", attempts=4),
    )
    assert disk_state.contents(STATE) == b""


def test_state_file_stays_small_and_can_be_deleted() -> None:
    disk_state = DiskState()

    async def main() -> int:
        async with open_results(disk_state) as journal:
            for number in range(100):
                for slot in range(3):
                    journal.record_in_flight(f"{number}-{slot}", 1)
                await asyncio.gather(*(journal.append(reply(f"{number}-{slot}")) for slot in range(3)))
            size = len(disk_state.contents(STATE) or b"")
            journal.record_in_flight("last", 1)
        return size

    assert run(main()) < 100
    assert disk_state.contents(STATE)
    disk_state.delete(STATE)
    assert open_results(disk_state).recovered.possibly_billed == 0


@pytest.mark.parametrize(
    "state", [bytes(17), b"\x81\xfe\x03", bytes(range(100, 111)) + bytes(5), b"\x07" * 9 + bytes(30)]
)
def test_what_a_crash_left_of_a_state_file_is_ignored(state: bytes) -> None:
    disk_state = DiskState()
    disk_state.put(STATE, state)
    journal = open_results(disk_state)
    assert journal.recovered.possibly_billed == 0
    journal.record_in_flight("a", 1)
    run(journal.close())
    assert len(disk_state.contents(STATE) or b"") == max(16, len(state)), "the space of invalid records is used again"
    assert open_results(disk_state).recovered.possibly_billed == 1


@pytest.mark.parametrize("state", [b"\xff" * 500, b"nonsense", b"my notes\n", b"some longer text", os.urandom(4000)])
def test_state_file_of_another_program_is_refused_and_unchanged(state: bytes) -> None:
    disk_state = DiskState()
    disk_state.put(STATE, state)
    with pytest.raises(ConfigError, match=r"results.jsonl.state was not written by this program"):
        open_results(disk_state)
    assert {path: disk_state.contents(path) for path in disk_state.names} == {STATE: state}
