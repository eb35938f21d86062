"""How much of a rate limit is used, over HTTP, in real minutes: ``python tests/benchmarks/limits.py``.

Five kinds of enforcing server run side by side, each with this program and, on a server of its own, a naive client:
a full bucket (aiolimiter's AsyncLimiter(limit, 60)) with backoff on 429. The server's referee judges: the least time
the limit allows for these jobs, the time from the first admission to the last, and the refusals.

    limits.py [--rpm 300] [--minutes 5.5] [--tokens]      about six minutes; --tokens bounds by tokens instead
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
from aiolimiter import AsyncLimiter

from processor.simulator.core import Provider
from processor.simulator.limits import Kind
from processor.simulator.server import SimulatorServer, serve
from processor.simulator.settings import SimulatorSettings

REPOSITORY = Path(__file__).parents[2]
KINDS: tuple[Kind, ...] = ("sliding", "minute", "second", "quantised", "silent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The same for every server and client."""

    rpm: int
    tpm: int | None
    max_tokens: list[int]
    """By job; what a job is charged."""

    @property
    def limit(self) -> int:
        return self.tpm or self.rpm

    def bodies(self) -> list[dict[str, object]]:
        return [
            {"model": "gpt-4o-mini", "max_tokens": most, "messages": [{"role": "user", "content": f"Say {n}."}]}
            for n, most in enumerate(self.max_tokens)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    kind: str
    client: str
    ideal_s: float
    took_s: float
    refused: int


def task(rpm: int, minutes: float, *, by_tokens: bool) -> Task:
    rng = random.Random(7)
    costs = [rng.randint(60, 240) if by_tokens else 40 for _ in range(round(rpm * minutes))]
    tpm = round(rpm * sum(costs) / len(costs)) if by_tokens else None
    return Task(rpm=rpm * 10 if by_tokens else rpm, tpm=tpm, max_tokens=costs)


async def start(kind: Kind, work: Task) -> SimulatorServer:
    settings = SimulatorSettings(
        rpm=work.rpm, tpm=work.tpm, kind=kind, first_token_s=0.3, speed_tps=400.0, gather_s=0.5, reply_tokens=(5, 30)
    )
    return await serve(Provider(settings))


async def ours(server: SimulatorServer, work: Task, folder: Path) -> None:
    jobs = folder / "jobs.jsonl"
    jobs.write_bytes(b"".join(orjson.dumps({"id": str(n), **body}) + b"\n" for n, body in enumerate(work.bodies())))
    limits = ["--rpm", str(work.rpm)] + (["--tpm", str(work.tpm)] if work.tpm else [])
    words = ["run", str(jobs), "--out", str(folder / "results.jsonl"), "--base-url", server.base_url, "--quiet"]
    words += ["--concurrency", "2000", *(limits if server.provider.referee.kind == "silent" else [])]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "processor", *words, env=environment)
    if await process.wait() != 0:
        raise SystemExit(f"process {' '.join(words)} failed")


async def naive(server: SimulatorServer, work: Task) -> None:
    limiter = AsyncLimiter(work.limit, 60)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(body: dict[str, object], cost: int) -> None:
            for attempt in range(1000):
                await limiter.acquire(cost)
                async with session.post(f"{server.base_url}/chat/completions", json=body) as response:
                    await response.read()
                    if response.status == 200:
                        return
                await asyncio.sleep(random.uniform(1, min(60, 2**attempt)))

        costs = work.max_tokens if work.tpm else [1] * len(work.max_tokens)
        await asyncio.gather(*(one(body, cost) for body, cost in zip(work.bodies(), costs, strict=True)))


async def measure(kind: Kind, client: str, work: Task) -> Row:
    server = await start(kind, work)
    try:
        if client == "process":
            with tempfile.TemporaryDirectory() as folder:
                await ours(server, work, Path(folder))
        else:
            await naive(server, work)
    finally:
        await server.close()
    referee = server.provider.referee
    return Row(
        kind=kind,
        client=client,
        ideal_s=referee.ideal_s(work.max_tokens),
        took_s=referee.log.last_at - referee.log.first_at,
        refused=sum(referee.log.refused.values()),
    )


def table(rows: list[Row], work: Task) -> str:
    unit = "tokens" if work.tpm else "requests"
    lines = [
        f"{len(work.max_tokens)} jobs at {work.limit:,} {unit} a minute",
        "",
        "| server | client | ideal | took | × ideal | 429s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        ratio = row.took_s / row.ideal_s if row.ideal_s else 1.0
        lines.append(
            f"| {row.kind} | {row.client} | {row.ideal_s:.1f} s | {row.took_s:.1f} s | {ratio:.3f} | {row.refused} |"
        )
    return "\n".join(lines)


async def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rpm", type=int, default=300)
    words.add_argument("--minutes", type=float, default=5.5, help="of work at the limit")
    words.add_argument("--tokens", action="store_true")
    given = words.parse_args()
    work = task(given.rpm, given.minutes, by_tokens=given.tokens)
    runs = [measure(kind, client, work) for kind in KINDS for client in ("process", "full bucket")]
    print(table(await asyncio.gather(*runs), work))


if __name__ == "__main__":
    asyncio.run(main())
