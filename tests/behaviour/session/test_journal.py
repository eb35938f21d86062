"""A session with a journal answers a job from it that has its row there, and keeps the promises of a run over kills."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

import processor.output.results_file
from processor import ConfigError, Plan, RunStopped, run
from processor.core.events import JobSkipped
from processor.core.models import JSON
from processor.output.paths import OutputPaths
from processor.simulator.fault_injecting_storage import (
    DiskState,
    FaultInjectingStorage,
    FaultPlan,
    Killed,
    StorageFault,
    fail_at_step,
)
from processor.simulator.faults import Faults
from processor.simulator.memory_transport import MemoryTransport
from processor.simulator.settings import INSTANT
from tests.support.scheduler_world import run_to_end
from tests.support.session_world import FAST_PROVIDER, SETTINGS, Sessions, job, play
from tests.support.slow_cases import slow_except

JOBS = [job(number, metadata={"n": number}) for number in range(30)]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def rows_in(path: Path) -> list[JSON]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def failures_in(journal: Path) -> list[JSON]:
    return rows_in(OutputPaths.of(journal).failures)


def by_id(rows: list[JSON]) -> dict[str, JSON]:
    assert len({row["custom_id"] for row in rows}) == len(rows)
    return {row["custom_id"]: row for row in rows}


def test_rows_stand_in_the_journal_as_they_were_returned(journal: Path) -> None:
    sessions = Sessions()
    returned = play(sessions.rows_of(JOBS, journal=journal))
    assert by_id(rows_in(journal)) == by_id(returned)


def test_next_session_answers_from_the_journal_without_a_request(journal: Path) -> None:
    sessions = Sessions()
    first = play(sessions.rows_of(JOBS, journal=journal))
    before = journal.read_bytes()
    again = play(sessions.rows_of([*reversed(JOBS), job(30)], journal=journal))
    assert sessions.requests == 31
    answered = by_id(again)
    answered.pop("job-30")
    assert answered == by_id(first)
    assert journal.read_bytes().startswith(before)
    assert [event.reason for event in sessions.events_of(JobSkipped)] == ["done"] * 30


def test_same_job_in_one_session_is_paid_once_also_while_it_is_open(journal: Path) -> None:
    sessions = Sessions()

    async def main() -> list[JSON]:
        async with sessions.open(journal=journal) as session:
            both = await asyncio.gather(session.result(job(1)), session.result(job(1)))
            return [*both, await session.result(job(1))]

    first, second, third = play(main())
    assert first == second == third
    assert sessions.requests == 1
    assert rows_in(journal) == [first]


def test_cancelling_one_of_two_callers_leaves_the_other_its_row(journal: Path) -> None:
    sessions = Sessions()

    async def main() -> JSON:
        async with sessions.open(journal=journal) as session:
            one, other = (asyncio.ensure_future(session.result(job(1))) for _ in range(2))
            await asyncio.sleep(0)
            one.cancel()
            return await other

    assert play(main())["error"] is None


def test_another_job_with_the_id_of_one_in_this_session_gets_a_failed_row(journal: Path) -> None:
    sessions = Sessions()

    async def main() -> list[JSON]:
        async with sessions.open(journal=journal) as session:
            other = job(1, prompt="Another?")
            rows = await asyncio.gather(session.result(job(1)), session.result(other))
            return [*rows, await session.result(other)]

    first, *others = play(main())
    assert first["error"] is None
    assert [row["error"]["code"] for row in others] == ["duplicate_custom_id"] * 2
    assert rows_in(journal) == [first]


@pytest.mark.parametrize("changed", ["keep", "resend"])
def test_edited_job_follows_the_setting(journal: Path, changed: Any) -> None:
    sessions = Sessions()
    (first,) = play(sessions.rows_of([job(1)], journal=journal))
    settings = replace(SETTINGS, changed=changed)
    (again,) = play(sessions.rows_of([job(1, prompt="Edited?")], journal=journal, settings=settings))
    assert (again == first) is (changed == "keep")
    assert rows_in(journal) == [again]


def test_equal_jobs_without_ids_are_answered_one_by_one(journal: Path) -> None:
    sessions = Sessions()
    first = play(sessions.rows_of([{"prompt": "a"}, {"prompt": "a"}], journal=journal))
    again = play(sessions.rows_of([{"prompt": "a"}, {"prompt": "a"}, {"prompt": "a"}], journal=journal))
    assert sessions.requests == 3
    assert by_id(again).items() >= by_id(first).items()


def test_failed_jobs_are_sent_again_and_permanent_failures_are_answered(journal: Path) -> None:
    sessions = Sessions(replace(FAST_PROVIDER, faults=Faults({"error_500": 1.0})))
    settings = replace(SETTINGS, max_attempts=1)
    jobs = [job(1), job(2, n="many"), {"id": "no-job"}]

    async def main() -> list[JSON]:
        async with sessions.open(settings, journal=journal) as session:
            rows = [await session.result(each) for each in jobs]
            assert by_id(failures_in(journal)) == by_id(rows)
            sessions.provider.settings = replace(sessions.provider.settings, faults=Faults())
            return [await session.result(each) for each in jobs]

    replied, refused, no_job = play(main())
    assert (replied["error"], replied["attempts"]) == (None, 2)
    assert (refused["error"]["code"], refused["attempts"]) == ("rejected", 1)
    assert no_job["error"]["code"] == "invalid_job"
    assert sessions.requests == 3
    again = play(sessions.rows_of(jobs[:2], journal=journal, settings=settings))
    assert sessions.requests == 3
    assert by_id(again) == by_id([replied, refused])
    assert rows_in(journal) == [replied]
    assert failures_in(journal) == [refused]


def test_journal_is_the_output_of_a_run_and_the_reverse(tmp_path: Path, journal: Path) -> None:
    sessions = Sessions(INSTANT)
    rows = play(sessions.rows_of(JOBS[:20], journal=journal))
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("".join(json.dumps(each) + "\n" for each in JOBS))
    plan = Plan(jobs=str(jobs), out=str(journal), settings=SETTINGS, quiet=True)
    assert run(plan, environ={}, transport=MemoryTransport(sessions.provider, latency_s=(0.0, 0.0))) == 0
    assert sessions.requests == 30
    assert by_id(rows_in(journal)).items() >= by_id(rows).items()
    again = play(sessions.rows_of(JOBS, journal=journal))
    assert sessions.requests == 30
    assert by_id(again) == by_id(rows_in(journal))


@pytest.mark.parametrize("name", ["plain", "é", 'quo"te', "back\\slash", "\ud800", "12", "x" * 5000])
def test_row_is_found_by_any_id(journal: Path, name: str) -> None:
    sessions = Sessions()
    (first,) = play(sessions.rows_of([{"id": name, "prompt": "a"}], journal=journal))
    (again,) = play(sessions.rows_of([{"id": name, "prompt": "a"}], journal=journal))
    assert (again, sessions.requests) == (first, 1)


def test_second_session_on_a_journal_is_refused(journal: Path) -> None:
    sessions = Sessions()

    async def main() -> None:
        async with sessions.open(journal=journal) as session:
            with pytest.raises(ConfigError, match="another run is writing to"):
                async with sessions.open(journal=journal):
                    raise AssertionError
            assert (await session.result(job(1)))["error"] is None

    play(main())


def test_journal_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        play(Sessions().rows_of([job(1)], journal=tmp_path / "missing" / "results.jsonl"))


def test_job_that_an_earlier_session_left_parked_is_sent_while_the_session_goes_on(journal: Path) -> None:
    """The next run sends such jobs last, and a session has no last job."""
    sessions = Sessions(replace(FAST_PROVIDER, models=()))

    async def main() -> JSON:
        async with sessions.open(journal=journal) as session:
            with suppress(RunStopped):
                await session.result(job(1))
        sessions.provider.settings = replace(sessions.provider.settings, models=None)
        async with sessions.open(journal=journal) as session:
            async with asyncio.timeout(60):
                return await session.result(job(1))

    assert play(main())["error"] is None


def test_budget_counts_the_rows_of_earlier_sessions(journal: Path) -> None:
    from processor.config.price_settings import ModelPrices

    prices = {"m": ModelPrices(input=1.0, output=10_000.0, max_output_tokens=30)}
    sessions = Sessions()
    settings = replace(SETTINGS, prices=prices, max_cost_usd=1.0, concurrency=2)
    rows: list[JSON] = []

    async def main() -> None:
        for _ in range(3):
            async with sessions.open(settings, journal=journal) as session:
                with pytest.raises(RunStopped, match=r"budget of 1\.00 USD"):
                    async for row in session.results(job(number) for number in range(100)):
                        rows.append(row)  # noqa: PERF401 - it raises at the end

    play(main())
    written = rows_in(journal)
    assert 0.3 < sum(row["cost_usd"] for row in written) <= 1.0
    assert sessions.requests == len(written)
    assert all(row in written for row in rows)


# ------------------------------------------------------------ kills


class Nights:
    """Sessions over one journal in memory, of which some are killed."""

    def __init__(self, journal: Path) -> None:
        self.sessions = Sessions(replace(FAST_PROVIDER, faults=Faults({"error_500": 0.05, "reset_mid": 0.05})))
        self.disk = DiskState()
        self.journal = journal
        self.returned: dict[str, JSON] = {}

    def rows(self, path: Path) -> list[JSON]:
        return [json.loads(line) for line in (self.disk.contents(path) or b"").splitlines()]

    def night(self, jobs: list[JSON], plan: FaultPlan | None = None) -> int:
        """Play one session to its end, or until the plan kills it. Return the steps of the disk."""
        storage = FaultInjectingStorage(self.disk, plan)

        async def main() -> None:
            async with self.sessions.open(replace(SETTINGS, concurrency=5), journal=self.journal) as session:
                async for row in session.results(jobs):
                    name = row["custom_id"]
                    assert self.returned.setdefault(name, row)["response"] == row["response"]

        with (
            patch.object(processor.output.results_file, "LocalStorage", lambda: storage),
            patch.object(asyncio, "to_thread", _at_once),
            patch.object(sys, "unraisablehook", lambda _: None),  # a killed process does not clean up
        ):
            run_to_end(main(), storage)
            gc.collect()
        return storage.steps


async def _at_once(work: Any, *more: Any) -> Any:
    return work(*more)


@pytest.mark.parametrize("seed", slow_except(range(12), 1))
def test_kills_at_any_step_lose_and_repeat_no_row(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    jobs = [job(number) for number in range(40)]
    nights = Nights(tmp_path / "results.jsonl")
    kills = 0
    for _ in range(8):
        random.shuffle(jobs)
        step = random.randint(1, 120)
        steps = nights.night(jobs, fail_at_step(step, StorageFault(Killed(), random.random())))
        kills += steps >= step
    nights.night(jobs)
    replies = nights.rows(nights.journal)
    failures = nights.rows(OutputPaths.of(nights.journal).failures)
    names = Counter(row["custom_id"] for row in [*replies, *failures])
    assert names == Counter({each["id"]: 1 for each in jobs})
    assert kills >= 3
    on_disk = by_id(replies)
    for name, row in nights.returned.items():
        if row["error"] is None:
            assert on_disk[name] == row, "a row that was returned has been lost, or was paid once more"
    failed_attempts = sum(row["attempts"] for row in [*replies, *failures]) - len(jobs)
    assert nights.sessions.requests <= len(jobs) + failed_attempts + kills * 5
