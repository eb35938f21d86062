"""A run with parked jobs ends in whatever order its jobs fail, succeed, are parked, released and left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import AccessDenied, RequestError, ServerError, Throttled
from processor.core.events import RequestListener, ResponseStarted, Sent, Transport
from processor.core.models import Job, Reply, Target
from processor.retry.backoff import Backoff
from processor.retry.policy import RetryPolicy
from tests.support.answers import PERHAPS_THE_JOB
from tests.support.scheduler_world import ERRORS, World, short_job

pytestmark = pytest.mark.sampled

FAST_RETRIES = RetryPolicy(max_attempts=3, backoff=Backoff(min_s=0.001, max_s=0.1))
SLOW_DISK_S = 0.5

ANSWERS: dict[str, Callable[[], RequestError]] = {
    **PERHAPS_THE_JOB,
    "500": lambda: ServerError("hiccup", status=500),
    "429": lambda: Throttled("slow down", status=429, retry_after_s=1.0),
    "long wait": lambda: Throttled("slow down", status=429, retry_after_s=7200.0),
    "spent": lambda: AccessDenied("you exceeded your current quota", status=429, scope="model"),
}
OK = "ok"
Script = Callable[[Job, int], tuple[str, float]]
"""What answers the nth request for a job, and after how many seconds."""


async def slow_disk(work: Callable[[], Any]) -> Any:
    await asyncio.sleep(SLOW_DISK_S)
    return work()


def scripted(script: Script) -> Callable[[Transport], Transport]:
    requests: dict[str, int] = {}

    def wrap(transport: Transport) -> Transport:
        async def send(job: Job, target: Target, on_event: RequestListener) -> Reply:
            requests[job.custom_id] = number = requests.get(job.custom_id, 0) + 1
            kind, delay_s = script(job, number)
            now = asyncio.get_running_loop().time
            if kind == OK:
                await asyncio.sleep(delay_s)
                return await transport(job, target, on_event)
            on_event(Sent(now()))
            await asyncio.sleep(delay_s)
            error = ANSWERS[kind]()
            on_event(ResponseStarted(getattr(error, "status", 200), {}, now()))
            raise error

        return send

    return wrap


def check_run(world: World, jobs: int, script: Script, *, concurrency: int) -> None:
    """The virtual clock raises Deadlock where a run waits for ever."""
    lines = [short_job(number, model=f"m{number % 3}") for number in range(jobs)]
    run = world.run(
        lines,
        wrap_transport=scripted(script),
        policy=FAST_RETRIES,
        concurrency=concurrency,
        run_in_thread=slow_disk,
    )
    rows = [row["custom_id"] for row in world.rows()]
    if world.disk.contents(ERRORS):
        rows += [row["custom_id"] for row in world.failures()]
    assert run.exit_code in (0, 1, 3), run.reason
    assert len(rows) == len(set(rows))
    assert run.exit_code == 3 or len(rows) == jobs
    if run.exit_code == 3:
        assert run.reason


@given(st.integers(0, 2**32), st.booleans())
def test_run_ends_in_whatever_order_its_jobs_end(seed: int, has_earlier_rows: bool) -> None:
    random = Random(seed)
    kinds = [*random.sample([*ANSWERS], k=random.randint(1, 4)), OK, OK]

    def script(job: Job, number: int) -> tuple[str, float]:
        return (random.choice(kinds) if number < 4 else OK), random.choice((0.0, 0.01, 0.1, 1.0, 3.0))

    world = World()
    if has_earlier_rows:
        world.run([short_job(number, model=f"m{number % 3}") for number in range(3)])
    check_run(world, random.randint(4, 12), script, concurrency=random.randint(1, 8))


@pytest.mark.parametrize("last", ["ok", "403", "404", "html", "spent"])
@pytest.mark.parametrize("first_ends_s", [0.05, 0.1, 0.15, 0.3])
def test_job_that_is_parked_again_while_others_are_decided_is_decided_too(last: str, first_ends_s: float) -> None:
    """Job 5 is sent again because it was released; it ends while the disk is read for the parked job 4."""
    world = World()
    world.run([short_job(number, model=f"m{number % 3}") for number in range(3)])

    def script(job: Job, number: int) -> tuple[str, float]:
        if job.custom_id == "job-4":
            return "404", 0.02
        if job.custom_id == "job-5":
            return ("html", 0.01) if number == 1 else (last, first_ends_s)
        return OK, 0.0

    check_run(world, 6, script, concurrency=8)
