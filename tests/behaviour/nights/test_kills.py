"""The real process, killed at random times over one job file, with an HTTP server that counts requests."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import orjson
import pytest

from processor.core.models import JSON
from processor.simulator.http_server import serve
from processor.simulator.provider import SimulatedProvider
from processor.simulator.request_parser import identity
from processor.simulator.settings import SimulatorSettings

CHAT = "/v1/chat/completions"
SETTINGS = SimulatorSettings(
    track_identities=True, first_token_s=0.05, speed_tps=1000.0, reply_tokens=(3, 60), write_batch_s=0.02
)
CONCURRENCY = 8
TIMEOUT_S = 120.0


def request(number: int) -> JSON:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": f"Question {number}?"}]}


@dataclass
class Campaign:
    """Runs over one job file."""

    folder: Path
    provider: SimulatedProvider
    base_url: str
    jobs: int
    in_flight: list[int] = field(default_factory=list)
    """Requests in flight at each kill."""

    @property
    def out(self) -> Path:
        return self.folder / "results.jsonl"

    async def start(self) -> asyncio.subprocess.Process:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        root = Path(__file__).parents[3]
        arguments = ("jobs.jsonl", "--out", "results.jsonl", "--base-url", self.base_url, "--quiet")
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "processor", *arguments, "--concurrency", str(CONCURRENCY)),
            cwd=self.folder,
            env={**environ, "OPENAI_API_KEY": "not-a-key", "PYTHONPATH": str(root)},
            stderr=asyncio.subprocess.PIPE,
        )

    async def kill(self, rng: Random) -> None:
        """Run, kill, and count what was in flight: requests of this run without a row."""
        before, done = Counter(self.provider.billing.requests_by_identity), self.replied()
        process = await self.start()
        if rng.random() < 0.8:
            await self._first_request(process)
        await asyncio.sleep(rng.uniform(0.0, 0.6))
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        # Requests sent before the kill may still be on their way to the server.
        await asyncio.sleep(0.05)
        asked = self.provider.billing.requests_by_identity - before
        assert not asked.keys() & done, "sent again, although its row was written"
        assert all(times == 1 for times in asked.values()), "sent twice by one run, with no failure between"
        unanswered = asked.keys() - self.replied()
        assert len(unanswered) <= CONCURRENCY
        self.in_flight.append(len(unanswered))

    async def _first_request(self, process: asyncio.subprocess.Process) -> None:
        before = self.provider.billing.requests
        while self.provider.billing.requests == before:
            assert process.returncode is None, await process.communicate()
            await asyncio.sleep(0.002)

    async def finish(self) -> int | None:
        process = await self.start()
        _, said = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        # With --quiet a run says only this, where the one before it was killed.
        assert all(line.endswith(b"may have been billed without a reply") for line in said.splitlines()), said.decode()
        return process.returncode

    def rows(self) -> list[JSON]:
        """All rows but the last line, which may be torn until the next run."""
        lines = self.out.read_bytes().split(b"\n")[:-1] if self.out.exists() else []
        return [orjson.loads(line) for line in lines]

    def replied(self) -> set[bytes]:
        return {identity(CHAT, request(int(row["custom_id"]))) for row in self.rows()}


async def campaign(folder: Path, jobs: int, kills: int) -> Campaign:
    provider = SimulatedProvider(SETTINGS)
    server = await serve(provider)
    one = Campaign(folder, provider, server.base_url, jobs)
    try:
        await play(one, kills)
    finally:
        await server.close()
    return one


async def play(one: Campaign, kills: int) -> None:
    lines = (orjson.dumps({"custom_id": str(n), "url": CHAT, "body": request(n)}) + b"\n" for n in range(one.jobs))
    (one.folder / "jobs.jsonl").write_bytes(b"".join(lines))
    rng = Random(kills)
    for _ in range(kills):
        await one.kill(rng)
    assert await one.finish() == 0
    rows = {row["custom_id"]: row for row in one.rows()}
    assert len(rows) == len(one.rows()) == one.jobs, "exactly one row for each job"
    for number in range(one.jobs):
        assert rows[str(number)]["response"]["body"] == one.provider.expected_body(CHAT, request(number))
    assert not (one.folder / "results.errors.jsonl").exists()
    sent_again = sum(one.provider.billing.requests_by_identity.values()) - one.jobs
    assert sent_again <= sum(one.in_flight)
    attempts = sum(row["attempts"] for row in rows.values())
    assert attempts >= one.jobs + sent_again, "the rows tell of every request"
    assert sum(map(bool, one.in_flight)) >= kills / 3, "the kills have met too little in flight to test anything"
    assert one.provider.billing.completed >= one.jobs


@pytest.mark.process
@pytest.mark.slow
def test_process_killed_eight_times_sends_no_written_job_again(tmp_path: Path) -> None:
    asyncio.run(campaign(tmp_path, jobs=400, kills=8))


@pytest.mark.slow
@pytest.mark.process
def test_process_killed_fifty_times_sends_no_written_job_again(tmp_path: Path) -> None:
    asyncio.run(campaign(tmp_path, jobs=2500, kills=50))
