"""Whatever a program and the provider do, each call of a session ends, and each row is that of its job.

The virtual clock raises Deadlock where something waits for ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from processor import RunStopped, Session
from processor.core.models import JSON
from processor.simulator.faults import Faults
from processor.simulator.settings import Outage, SimulatorSettings
from tests.support.session_world import FAST_PROVIDER, SETTINGS, Sessions, job, play
from tests.support.slow_cases import slow_except

MODELS = ("m", "m", "m", "other", "unknown")


def odd_provider(random: Random) -> SimulatorSettings:
    """A provider that fails in several ways, and may refuse everything from some time on."""
    begin = random.uniform(0.0, 20.0)
    kind: Any = random.choice(["refuse", "500", "503", "429"])
    return replace(
        FAST_PROVIDER,
        seed=random.randrange(1000),
        rpm=random.choice([None, 30, 300]),
        models=("m", "other"),
        quota=random.choice([None, None, random.randrange(1, 200)]),
        faults=Faults(dict.fromkeys(("error_500", "reset_mid", "cut", "stall_mid"), random.choice([0.0, 0.05]))),
        outages=random.choice([(), (Outage(from_s=begin, to_s=begin + 100.0, kind=kind),)]),
    )


@dataclass
class Program:
    """Uses one session in many ways at a time."""

    random: Random
    session: Session
    ends: Counter[str] = field(default_factory=Counter)
    """How the calls ended."""
    number: int = 0

    def job(self) -> JSON:
        self.number += 1
        model = self.random.choice(MODELS)
        given = job(self.number, model=model, metadata=self.number)
        return given if self.random.random() < 0.95 else {"id": given["id"], "metadata": self.number}

    async def call(self) -> None:
        await asyncio.sleep(self.random.uniform(0.0, 30.0))
        given = self.job()
        limit_s = self.random.choice([None, None, self.random.uniform(0.0, 5.0)])
        try:
            async with asyncio.timeout(limit_s):
                row = await self.session.result(given)
        except (RunStopped, TimeoutError) as error:
            self.ends[type(error).__name__] += 1
        else:
            assert (row["custom_id"], row["metadata"]) == (given["id"], given["metadata"])
            self.ends["row"] += 1

    async def stream(self) -> None:
        await asyncio.sleep(self.random.uniform(0.0, 10.0))
        count = self.random.choice([0, 3, 100, 900])
        given = {each["id"]: each for each in (self.job() for _ in range(count))}
        leave_after = self.random.choice([count, count, count // 2])
        rows = 0
        try:
            async with aclosing(self.session.results(list(given.values()))) as found:
                async for row in found:
                    assert row["metadata"] == given.pop(row["custom_id"])["metadata"]
                    rows += 1
                    if rows > leave_after:
                        self.ends["left"] += 1
                        return
                    if self.random.random() < 0.01:
                        await asyncio.sleep(self.random.uniform(0.0, 3.0))
        except RunStopped:
            self.ends["RunStopped"] += 1
        else:
            assert not given, "a stream ended as if all jobs had rows"
            self.ends["all rows"] += 1


async def use(random: Random, open_session: Callable[[], Session]) -> Counter[str]:
    async with open_session() as session:
        program = Program(random, session)
        works = [program.call() for _ in range(60)] + [program.stream() for _ in range(5)]
        tasks = [asyncio.ensure_future(work) for work in works]
        close_after_s = random.choice([None, random.uniform(0.0, 60.0)])
        with suppress(TimeoutError):
            async with asyncio.timeout(close_after_s):
                await asyncio.shield(asyncio.gather(*tasks))
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    return program.ends


@pytest.mark.parametrize("seed", slow_except(range(16), 3, 5))
def test_each_call_ends_with_the_row_of_its_job_or_with_the_reason(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    sessions = Sessions(odd_provider(random))
    settings = replace(SETTINGS, concurrency=random.choice([1, 5, 50]), max_attempts=3)
    journal = random.choice([None, tmp_path / "results.jsonl"])
    ends = play(use(random, lambda: sessions.open(settings, journal=journal)))
    assert sum(ends.values()) == 65
