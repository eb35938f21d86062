"""``processor.results`` yields rows to a program without an event loop, over a real server and in real threads."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import processor
from processor.core.errors import AccessDenied
from processor.core.events import RequestListener, Sent
from processor.core.models import JSON, Job, Reply, Target
from processor.simulator.memory_transport import MemoryTransport
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import INSTANT
from tests.support.session_world import SETTINGS, job


def transport() -> MemoryTransport:
    return MemoryTransport(SimulatedProvider(INSTANT), latency_s=(0.0, 0.0))


def rows_of(jobs: Any, **options: Any) -> Iterator[JSON]:
    usual: dict[str, Any] = {"transport": transport(), "environ": {}}
    return processor.results(jobs, SETTINGS, **usual | options)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name == "processor.results"]


def test_results_yields_a_row_for_each_job() -> None:
    rows = list(rows_of(job(number) for number in range(300)))
    assert {row["custom_id"] for row in rows} == {f"job-{number}" for number in range(300)}
    assert all(row["error"] is None for row in rows)


def test_results_works_beside_a_running_loop_as_in_a_notebook() -> None:
    async def cell() -> list[JSON]:
        return list(rows_of([job(1), job(2)]))

    assert len(asyncio.run(cell())) == 2


def test_jobs_are_taken_in_the_thread_of_the_caller() -> None:
    threads = set()

    def jobs() -> Iterator[JSON]:
        for number in range(50):
            threads.add(threading.current_thread())
            yield job(number)

    assert len(list(rows_of(jobs()))) == 50
    assert threads == {threading.current_thread()}


def test_leaving_the_loop_early_ends_the_session_and_takes_no_more_jobs() -> None:
    taken = []

    def jobs() -> Iterator[JSON]:
        for number in range(1_000_000):
            taken.append(number)
            yield job(number)

    for _ in rows_of(jobs()):
        break
    gc.collect()
    before = len(taken)
    assert before < 20_000
    time.sleep(0.02)
    assert len(taken) == before


def test_error_of_the_iterable_is_raised() -> None:
    def jobs() -> Iterator[JSON]:
        yield job(1)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(rows_of(jobs()))


def test_wrong_settings_are_raised_with_the_first_row() -> None:
    with pytest.raises(processor.ConfigError, match="OPENAI_API_KEY"):
        list(processor.results([job(1)], processor.Settings(model="m"), environ={}))


def test_stopped_session_raises_after_its_rows() -> None:
    async def refuse(sent: Job, target: Target, on_event: RequestListener) -> Reply:
        on_event(Sent(asyncio.get_running_loop().time()))
        raise AccessDenied("the key is refused", status=401)

    with pytest.raises(processor.RunStopped, match="the key is refused"):
        list(rows_of([job(1)], transport=refuse))


def test_no_job_yields_no_row() -> None:
    assert list(rows_of([])) == []


@pytest.fixture
def heeds_interrupts() -> Iterator[None]:
    """A shell starts what runs in the background with interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interrupts")
def test_interrupt_ends_the_session_and_reaches_the_caller() -> None:
    async def never(sent: Job, target: Target, on_event: RequestListener) -> Reply:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await asyncio.sleep(1000)
        raise AssertionError

    with pytest.raises(KeyboardInterrupt):
        list(rows_of([job(1)], transport=never))


def test_journal_answers_the_second_time(tmp_path: Path) -> None:
    journal = tmp_path / "results.jsonl"
    first = {row["custom_id"]: row for row in rows_of([job(1), job(2)], journal=journal)}
    again = {row["custom_id"]: row for row in rows_of([job(3), job(2), job(1)], journal=str(journal))}
    written = [json.loads(line) for line in journal.read_text().splitlines()]
    assert written[:2] == list(first.values())
    assert {row["custom_id"]: row for row in written} == again
