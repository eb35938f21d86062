"""A request holds its slot from its first byte until its row is written, or until it has failed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from processor.core.events import JobFinished
from processor.core.models import Result
from processor.output.results_file import ResultsFile
from processor.simulator.faults import Faults
from tests.support.scheduler_world import FAST_PROVIDER, RunRecord, World, short_job

ROW_S = 5.0


@pytest.fixture
def slow_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes five seconds for every row."""
    append = ResultsFile.append

    async def slow(journal: ResultsFile, result: Result) -> None:
        await asyncio.sleep(ROW_S)
        await append(journal, result)

    monkeypatch.setattr(ResultsFile, "append", slow)


def finished(run: RunRecord) -> list[float]:
    return [event.at for event in run.events_of(JobFinished)]


@pytest.mark.usefixtures("slow_rows")
@pytest.mark.parametrize("more", [{}, {"n": "many"}], ids=["replied", "failed"])
def test_slot_is_held_until_the_row_is_written(more: dict[str, object]) -> None:
    run = World().run([short_job(0), *(short_job(number, **more) for number in range(1, 6))], concurrency=1)
    sent = [at for at, _, _ in run.sent]
    assert len(sent) == len(finished(run)) == 6
    assert all(row <= following for row, following in zip(finished(run), sent[1:], strict=False))


@pytest.mark.usefixtures("slow_rows")
def test_slot_of_a_job_that_will_be_retried_is_free_at_once() -> None:
    """Two jobs, one slot, and a server that always fails: the second job is sent during the backoff of the first."""
    run = World(replace(FAST_PROVIDER, faults=Faults({"error_500": 1.0}))).run(
        [short_job(0), short_job(1)], concurrency=1
    )
    assert [custom_id for _, custom_id, _ in run.sent[:2]] == ["job-0", "job-1"]
    assert run.sent[1][0] - run.sent[0][0] < 1.0
