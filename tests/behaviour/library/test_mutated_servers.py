"""Whole runs against servers whose responses are mutated at random: none ends in an internal error, none hangs.

``MUTATED_SERVERS_S`` sets how long the campaign goes on, ``MUTATED_SERVERS_SEED`` where it begins.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import processor
from processor.config.settings import Waiting
from processor.core.events import BottleneckChanged, RunEvent
from tests.support.mutated_responses import ResponseMutator

JOBS = 16
RUNS_AT_A_TIME = 6
MAX_RUN_S = 120.0
"""Some runs wait for cool-downs of the rate limiter, and for probes in an outage that the server plays."""
OBEYS_LIMIT = -1
"""Instead of an exit code: the run obeys a limit of the server, such as one request a minute, and would go on."""
WAITING = Waiting(
    connect_timeout_s=2.0,
    first_byte_timeout_s=0.3,
    stall_timeout_s=0.2,
    request_timeout_s=1.0,
    backoff_min_s=0.001,
    backoff_max_s=0.01,
    max_wait_s=1.0,
    max_outage_s=2.0,
)

SETTINGS = replace(processor.Settings(), concurrency=8, max_attempts=2, waiting=WAITING)


@asynccontextmanager
async def mutated_server(seed: int) -> AsyncIterator[str]:
    """Answers every request with the next response of the seed. Yields the base URL."""
    mutator = ResponseMutator(seed)
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = re.search(rb"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(size.group(1)) if size else 0)
                data = mutator.response(streamed=b'"stream":true' in body)
                for chunk in mutator.chunks(data):
                    writer.write(chunk)
                    await writer.drain()
                    await asyncio.sleep(0)
                if mutator.closes:
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_against_mutated_server(folder: Path, seed: int) -> int:
    """One run on a new output. Returns its exit code, or OBEYS_LIMIT."""
    jobs, out = folder / f"{seed}.jsonl", folder / f"{seed}.results.jsonl"
    lines = [
        {"id": f"j{number}", "model": f"m{number % 3}", "prompt": "Hi", **({"max_tokens": 9} if number % 2 else {})}
        for number in range(JOBS)
    ]
    lines[seed % JOBS]["stream"] = seed % 2 == 0
    jobs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    async with mutated_server(seed) as base_url:
        settings = replace(SETTINGS, base_url=base_url, stream=seed % 5 != 0)
        plan = processor.Plan(jobs=str(jobs), out=str(out), settings=settings, quiet=True)
        bottlenecks: list[Any] = ["none"]

        def listener(event: RunEvent) -> None:
            if isinstance(event, BottleneckChanged):
                bottlenecks.append(event.bottleneck)

        key = {"OPENAI_API_KEY": "sk-test-0123456789abcdef"}
        run = asyncio.ensure_future(processor.run_async(plan, key, listeners=[listener]))
        await asyncio.wait([run], timeout=MAX_RUN_S)
        if not run.done():
            waits_for = bottlenecks[-1]  # read before the run is cancelled, which changes it
            run.cancel()
            await asyncio.wait([run])
            assert waits_for in ("requests", "tokens"), f"the run has not ended after {MAX_RUN_S} s: {waits_for}"
            return OBEYS_LIMIT
        code = run.result()
    check_rows(out, code)
    return code


def check_rows(out: Path, code: int) -> None:
    """No job has two rows; without an early stop each has one."""
    names: Counter[str] = Counter()
    for path in (out, out.with_name(out.name.replace(".results.jsonl", ".results.errors.jsonl"))):
        for line in path.read_bytes().splitlines() if path.exists() else ():
            names[json.loads(line)["custom_id"]] += 1
    assert all(count == 1 for count in names.values())
    assert code == 3 or len(names) == JOBS


async def campaign(folder: Path, seconds: float, first_seed: int) -> tuple[Counter[int], list[str]]:
    """Runs until the time is over. Returns how often each exit code came, and which runs went wrong."""
    codes: Counter[int] = Counter()
    failures: list[str] = []
    ends_at = time.monotonic() + seconds
    seeds = iter(range(first_seed, 10**9))

    async def worker() -> None:
        for seed in seeds:
            if time.monotonic() > ends_at:
                return
            try:
                codes[await run_against_mutated_server(folder, seed)] += 1
            except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001
                failures.append(f"seed {seed}: {error!r}")
            for path in folder.glob(f"{seed}.*"):
                path.unlink()
            gc.collect()  # a run refers to itself, and holds megabytes in a few objects

    async with asyncio.TaskGroup() as group:
        for _ in range(RUNS_AT_A_TIME):
            group.create_task(worker())
    return codes, failures


@pytest.mark.slow
def test_mutated_servers_end_no_run_in_an_internal_error_and_hang_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = float(os.environ.get("MUTATED_SERVERS_S", "20"))
    codes, failures = asyncio.run(campaign(tmp_path, seconds, int(os.environ.get("MUTATED_SERVERS_SEED", "1"))))
    with capsys.disabled():
        print(f"\n{codes.total()} runs, exit codes {dict(codes)}")
    assert not failures
    assert codes.keys() <= {0, 1, 3, OBEYS_LIMIT}
    assert codes.total() >= seconds / 10
