"""What was spent beside the rows: it outlives a kill, a compaction and further runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from processor.output.results_file import ResultsFile
from processor.output.sink import END_OF_FILE, SpentEarlier
from processor.simulator.fault_injecting_storage import DiskState
from processor.simulator.virtual_clock import run
from tests.support.results_samples import STATE, failure, open_results, reply

CENT = 10**10
"""In 1e-12 USD."""


def play(disk_state: DiskState, work: Callable[[ResultsFile], Awaitable[object]], *, killed: bool = False) -> None:
    """One run on the output."""

    async def main() -> None:
        journal = open_results(disk_state)
        await work(journal)
        if not killed:
            await journal.close(END_OF_FILE)

    run(main())
    disk_state.release_locks()


async def nothing(journal: ResultsFile) -> None:
    """A run that has nothing to do."""


def spent(disk_state: DiskState) -> SpentEarlier:
    journal = open_results(disk_state)
    found = journal.recovered.spent
    run(journal.close())
    disk_state.release_locks()
    return found


def test_requests_in_flight_at_a_kill_count_at_their_worst_case_in_all_later_runs() -> None:
    disk_state = DiskState()

    async def work(journal: ResultsFile) -> None:
        journal.record_in_flight("answered", 1, 3 * CENT)
        journal.record_in_flight("broken", 1, 5 * CENT)
        journal.record_in_flight("unknown", 1)
        journal.record_in_flight("refused", 1, 7 * CENT)
        journal.clear_in_flight("refused", 1)
        await journal.append(reply("answered", cost_usd=0.01))

    play(disk_state, work, killed=True)
    found = spent(disk_state)
    assert (found.rows_pico, found.beside_rows_pico) == (CENT, 5 * CENT)
    assert len(found.unpriced) == 1
    for _ in range(2):
        play(disk_state, nothing)
        assert spent(disk_state).pico == 6 * CENT


def test_small_amount_of_a_request_in_flight_is_rounded_up() -> None:
    disk_state = DiskState()

    async def work(journal: ResultsFile) -> None:
        journal.record_in_flight("a", 1, 12_345)

    play(disk_state, work, killed=True)
    assert 12_345 <= spent(disk_state).pico <= 20_000


def test_sums_outlive_rows_that_a_later_row_supersedes() -> None:
    disk_state = DiskState()

    async def first(journal: ResultsFile) -> None:
        await journal.append(reply("a", cost_usd=0.02))
        await journal.append(failure("b", cost_usd=0.04))
        journal.add_spent(CENT)

    async def second(journal: ResultsFile) -> None:
        await journal.append(reply("a", "again", cost_usd=0.03))
        await journal.append(reply("b", cost_usd=0.01))

    play(disk_state, first)
    play(disk_state, second)
    found = spent(disk_state)
    assert (found.rows_pico, found.beside_rows_pico) == (4 * CENT, 7 * CENT)


def test_rows_alone_count_where_the_state_file_is_gone() -> None:
    disk_state = DiskState()

    async def work(journal: ResultsFile) -> None:
        journal.add_spent(CENT)
        await journal.append(reply("a", cost_usd=0.02))
        await journal.append(reply("b"))

    play(disk_state, work)
    assert spent(disk_state) == SpentEarlier(rows_pico=2 * CENT, beside_rows_pico=CENT, unknown_rows=1)
    disk_state.delete(STATE)
    assert spent(disk_state) == SpentEarlier(rows_pico=2 * CENT, unknown_rows=1, is_record_lost=True)
