"""A request holds its slot from its first byte to its row, and no longer than it is in flight."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from processor.core.events import JobFinished
from processor.core.models import Result
from processor.output.results_file import ResultsFile
from processor.simulator.faults import Faults
from tests.support.scheduler_world import QUICK, Ran, World, ask

ROW_S = 5.0


@pytest.fixture
def slow_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes its time for every row."""
    append = ResultsFile.append

    async def slow(journal: ResultsFile, result: Result) -> None:
        await asyncio.sleep(ROW_S)
        await append(journal, result)

    monkeypatch.setattr(ResultsFile, "append", slow)


def finished(ran: Ran) -> list[float]:
    return [event.at for event in ran.said(JobFinished)]


@pytest.mark.usefixtures("slow_rows")
@pytest.mark.parametrize("more", [{}, {"n": "many"}], ids=["replied", "failed"])
def test_a_slot_is_held_until_the_row_is_written(more: dict[str, object]) -> None:
    ran = World().run([ask(0), *(ask(number, **more) for number in range(1, 6))], concurrency=1)
    sent = [at for at, _, _ in ran.sent]
    assert len(sent) == len(finished(ran)) == 6
    assert all(row <= following for row, following in zip(finished(ran), sent[1:], strict=False))


@pytest.mark.usefixtures("slow_rows")
def test_that_of_a_job_that_will_be_tried_again_is_free_at_once() -> None:
    """Two jobs, one slot, and only failures that may pass: the second goes while the first is in its backoff."""
    ran = World(replace(QUICK, faults=Faults({"error_500": 1.0}))).run([ask(0), ask(1)], concurrency=1)
    assert [custom_id for _, custom_id, _ in ran.sent[:2]] == ["job-0", "job-1"]
    assert ran.sent[1][0] - ran.sent[0][0] < 1.0
