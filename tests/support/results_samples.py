"""Sample results, and a minimal run that uses a results file as the scheduler does."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from processor.core.models import Failure, Reply, Result, Timing, Usage
from processor.output.job_index import JobStatus
from processor.output.results_file import ResultsFile
from processor.output.sink import END_OF_FILE
from processor.simulator.fault_injecting_storage import DiskState, FaultInjectingStorage, FaultPlan
from processor.simulator.virtual_clock import inline, run

OUT = Path("/out/results.jsonl")
ERRORS = Path("/out/results.errors.jsonl")
DAMAGED = Path("/out/results.damaged.jsonl")
STATE = Path("/out/results.jsonl.state")

TIMING = Timing(started_at="2026-01-01T00:00:00.000Z", queued_s=0.0, first_token_s=0.1, total_s=0.2)


def fingerprint_of(name: str) -> str:
    """Return a fingerprint made from a name."""
    return name.encode().hex().ljust(32, "0")[-32:]


def reply(name: str, text: str = "hello", *, request: str | None = None, attempts: int = 1, **more: Any) -> Result:
    return Result(
        fingerprint=fingerprint_of(request or name),
        custom_id=name,
        line=more.pop("line", 1),
        reply=Reply(status_code=200, request_id="r-1", body={"object": "chat.completion", "text": text}),
        usage=Usage(prompt_tokens=1, completion_tokens=2),
        attempts=attempts,
        timing=TIMING,
        **more,
    )


def failure(name: str, code: str = "timeout", *, request: str | None = None, attempts: int = 6, **more: Any) -> Result:
    return Result(
        fingerprint=fingerprint_of(request or name),
        custom_id=name,
        line=more.pop("line", 1),
        failure=Failure(code=code, message="no", permanent=more.pop("permanent", False)),
        attempts=attempts,
        timing=TIMING,
        **more,
    )


def invalid_line(number: int, text: str = "{", custom_id: str | None = None, code: str = "invalid_json") -> Result:
    return Result(
        fingerprint=fingerprint_of(text),
        custom_id=custom_id,
        line=number,
        failure=Failure(code=code, message=f"jobs.jsonl:{number}: broken"),
    )


def rows(data: bytes | Path | None) -> list[dict[str, Any]]:
    if isinstance(data, Path):
        data = data.read_bytes() if data.exists() else None
    return [json.loads(line) for line in (data or b"").splitlines()]


def ids(data: bytes | None) -> list[str]:
    """Return the ``custom_id`` of each row."""
    return [row["custom_id"] for row in rows(data)]


def open_results(disk_state: DiskState, plan: FaultPlan | None = None, **options: Any) -> ResultsFile:
    """Open a results file on a disk in memory, which fails as ``plan`` says."""
    storage = FaultInjectingStorage(disk_state, plan)
    return ResultsFile.open(OUT, storage=storage, run_in_thread=inline, **options)


def write_results(
    disk_state: DiskState, *results: Result, lines_read: int | None = END_OF_FILE, **options: Any
) -> ResultsFile:
    """Run once: append these results one after the other, and close."""

    async def main() -> ResultsFile:
        journal = open_results(disk_state, **options)
        async with journal:
            for result in results:
                await journal.append(result)
            await journal.close(lines_read)
        return journal

    return run(main())


class Provider:
    """Replies with a text made from the request. Jobs in ``refuses`` and ``fails`` get no reply."""

    def __init__(self, *, refuses: Iterable[str] = (), fails: Iterable[str] = ()) -> None:
        self.refuses = set(refuses)
        self.fails = set(fails)
        self.sent: Counter[str] = Counter()

    async def __call__(self, name: str, request: str, attempts: int, line: int) -> Result:
        self.sent[name] += 1
        await asyncio.sleep(0.01 * (1 + line % 3))
        if name in self.refuses:
            return failure(name, "rejected", request=request, permanent=True, attempts=attempts, line=line)
        if name in self.fails:
            return failure(name, request=request, attempts=attempts, line=line)
        return reply(name, f"reply to {request}", request=request, attempts=attempts, line=line)


class MiniRun:
    """Runs a job file of (id, request) pairs; an id of None marks an invalid line.

    ``written`` maps the id of each reply to the loop's time when ``append`` returned.
    """

    def __init__(
        self, jobs: list[tuple[str | None, str]], provider: Provider, *, concurrency: int = 3, resend: bool = False
    ) -> None:
        self.jobs = jobs
        self.provider = provider
        self.concurrency = concurrency
        self.resend = resend
        self.written: dict[str, float] = {}
        self.statuses: dict[str, JobStatus] = {}

    async def __call__(self, journal: ResultsFile) -> None:
        # Nobody asks for the errors of a killed run. Reporting them, whenever they are collected, makes a traceback,
        # which parses source: Python 3.11 fails where it is parsing a file at that moment.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        queue = iter(enumerate(self.jobs, 1))
        async with journal:
            tasks = [asyncio.create_task(self._worker(journal, queue)) for _ in range(self.concurrency)]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for task in done:
                task.result()
            await journal.close(END_OF_FILE)

    async def _worker(self, journal: ResultsFile, queue: Iterator[tuple[int, tuple[str | None, str]]]) -> None:
        for line, (name, request) in queue:
            if name is None:
                await journal.append(invalid_line(line, request))
                continue
            self.statuses[name] = status = journal.job_index.classify(name, fingerprint_of(request))
            if status is JobStatus.DUPLICATE:
                await journal.append(invalid_line(line, request, name, "duplicate_custom_id"))
            elif status in (JobStatus.NEW, JobStatus.FAILED) or (status is JobStatus.CHANGED and self.resend):
                await self._work(journal, name, request, line)

    async def _work(self, journal: ResultsFile, name: str, request: str, line: int) -> None:
        attempts = journal.job_index.attempts(name) + 1
        journal.record_in_flight(name, attempts)
        result = await self.provider(name, request, attempts, line)
        await journal.append(result)
        if result.reply:
            self.written[name] = asyncio.get_running_loop().time()
