"""How much of a rate limit is used, over HTTP, in real minutes: ``python -m tests.benchmarks.limits``.

Five kinds of enforcing server, bound by requests and by tokens, each with this program and, on a server of its own, a
naive client: a full bucket (aiolimiter's AsyncLimiter(limit, 60)) with backoff on 429. First all of this program's
runs, a few seconds apart, then all of the naive ones, so that no run makes another's requests late. The servers are in
one process on the last core, the clients on the others: at a few requests a second none of them is busy. The servers'
referees judge: the least time the limit allows for these jobs, the time from the first admission to the last, and the
refusals.

    limits.py [--rpm 300] [--minutes 5.5] [--bound requests|tokens] [--kind KIND]...    a quarter of an hour or more
    limits.py --short                                                                   five minutes: 1.5 windows
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import aiohttp
import orjson
from aiolimiter import AsyncLimiter

from processor.simulator.http_server import SimulatorServer, serve
from processor.simulator.provider import SimulatedProvider
from processor.simulator.rate_limiter import LIMITER_KINDS, LimiterKind
from processor.simulator.settings import SimulatorSettings
from tests.benchmarks.measure import CORES, ENVIRONMENT, SERVER_CORE

Bound = Literal["requests", "tokens"]
CLIENTS = ("process", "full bucket")
SHORT_MINUTES = 1.5
APART_S = 3.0
"""Between the starts of two programs: starting takes a core for a second."""
CLIENT_CORES = set(CORES) - {SERVER_CORE} or set(CORES)


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

    @property
    def bound(self) -> Bound:
        return "tokens" if self.tpm else "requests"

    def bodies(self) -> list[dict[str, object]]:
        return [
            {"model": "gpt-4o-mini", "max_tokens": most, "messages": [{"role": "user", "content": f"Say {n}."}]}
            for n, most in enumerate(self.max_tokens)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A server's, when its client is done."""

    ideal_s: float
    took_s: float
    refused: int


def task(rpm: int, minutes: float, bound: Bound) -> Task:
    rng = random.Random(7)
    costs = [rng.randint(60, 240) if bound == "tokens" else 40 for _ in range(round(rpm * minutes))]
    tpm = round(rpm * sum(costs) / len(costs)) if bound == "tokens" else None
    return Task(rpm=rpm * 10 if bound == "tokens" else rpm, tpm=tpm, max_tokens=costs)


# ------------------------------------------------------------ the servers, in a process of their own


def settings(kind: LimiterKind, work: Task) -> SimulatorSettings:
    return SimulatorSettings(
        rpm=work.rpm,
        tpm=work.tpm,
        kind=kind,
        first_token_s=0.3,
        speed_tps=400.0,
        write_batch_s=0.5,
        reply_tokens=(5, 30),
    )


async def judge() -> None:
    """On stdin a line: the kinds and tasks. On stdout a line: where they are served; when stdin ends, the verdicts."""
    orders = [(kind, Task(**work)) for kind, work in orjson.loads(sys.stdin.buffer.readline())]
    servers = [await serve(SimulatedProvider(settings(kind, work))) for kind, work in orders]
    print(orjson.dumps([server.base_url for server in servers]).decode(), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    for server in servers:
        await server.close()
    verdicts = [verdict(server, work) for server, (_, work) in zip(servers, orders, strict=True)]
    print(orjson.dumps([asdict(one) for one in verdicts]).decode(), flush=True)


def verdict(server: SimulatorServer, work: Task) -> Verdict:
    referee = server.provider.rate_limiter
    return Verdict(
        ideal_s=referee.min_duration_s(work.max_tokens),
        took_s=referee.log.last_at - referee.log.first_at,
        refused=sum(referee.log.throttled.values()),
    )


# ------------------------------------------------------------ the clients


async def ours(base_url: str, kind: LimiterKind, work: Task) -> None:
    """A job is charged as the server does it: here as OpenAI does."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = Path(folder) / "jobs.jsonl"
        jobs.write_bytes(b"".join(orjson.dumps({"id": str(n), **body}) + b"\n" for n, body in enumerate(work.bodies())))
        config = Path(folder) / "config.toml"
        config.write_text('[limits]\ncharging = "larger"\n')
        limits = ["--rpm", str(work.rpm)] + (["--tpm", str(work.tpm)] if work.tpm else [])
        words = ["run", str(jobs), "--out", f"{folder}/results.jsonl", "--base-url", base_url, "--quiet"]
        words += ["--config", str(config), "--concurrency", "2000", *(limits if kind == "silent" else [])]
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "processor", *words, env=ENVIRONMENT)
        if await process.wait() != 0:
            raise SystemExit(f"process {' '.join(words)} failed")


async def naive(base_url: str, kind: LimiterKind, work: Task) -> None:
    limiter = AsyncLimiter(work.limit, 60)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(body: dict[str, object], cost: int) -> None:
            for attempt in range(1000):
                await limiter.acquire(cost)
                async with session.post(f"{base_url}/chat/completions", json=body) as response:
                    await response.read()
                    if response.status == 200:
                        return
                await asyncio.sleep(random.uniform(1, min(60, 2**attempt)))

        costs = work.max_tokens if work.tpm else [1] * len(work.max_tokens)
        await asyncio.gather(*(one(body, cost) for body, cost in zip(work.bodies(), costs, strict=True)))


async def after(wait_s: float, client: str, base_url: str, kind: LimiterKind, work: Task) -> None:
    await asyncio.sleep(wait_s)
    await (ours if client == "process" else naive)(base_url, kind, work)


async def measure(runs: Sequence[tuple[LimiterKind, Task, str]]) -> list[Verdict]:
    os.sched_setaffinity(0, {SERVER_CORE})
    judges = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "--judge",
        env=ENVIRONMENT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    os.sched_setaffinity(0, CLIENT_CORES)
    assert judges.stdin is not None
    assert judges.stdout is not None
    try:
        judges.stdin.write(orjson.dumps([(kind, asdict(work)) for kind, work, _ in runs]) + b"\n")
        urls = orjson.loads(await judges.stdout.readline())
        for client in CLIENTS:
            those = [(url, kind, work) for url, (kind, work, of) in zip(urls, runs, strict=True) if of == client]
            await asyncio.gather(*(after(n * APART_S, client, *one) for n, one in enumerate(those)))
    finally:
        judges.stdin.close()
    verdicts = [Verdict(**one) for one in orjson.loads(await judges.stdout.readline())]
    await judges.wait()
    return verdicts


# ------------------------------------------------------------ the table


def table(runs: Sequence[tuple[LimiterKind, Task, str]], verdicts: Sequence[Verdict]) -> str:
    lines = [
        "| limit a minute | jobs | server | client | ideal | took | × ideal | utilisation | 429s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (kind, work, client), one in zip(runs, verdicts, strict=True):
        ratio, used = one.took_s / max(one.ideal_s, 1e-9), one.ideal_s / max(one.took_s, 1e-9)
        # What fits into one burst has no time to be compared with.
        compared = f"{ratio:.3f} | {100 * used:.1f} %" if one.ideal_s else "- | -"
        lines.append(
            f"| {work.limit:,} {work.bound} | {len(work.max_tokens):,} | {kind} | {client} | {one.ideal_s:.1f} s"
            f" | {one.took_s:.1f} s | {compared} | {one.refused} |"
        )
    return "\n".join(lines)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rpm", type=int, default=300)
    words.add_argument("--minutes", type=float, default=5.5, help="of work at the limit")
    words.add_argument("--short", action="store_true", help=f"{SHORT_MINUTES} minutes of work")
    words.add_argument("--bound", choices=("requests", "tokens"), action="append")
    words.add_argument("--kind", choices=LIMITER_KINDS, action="append")
    words.add_argument("--judge", action="store_true", help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.judge:
        asyncio.run(judge())
        return
    minutes = SHORT_MINUTES if given.short else given.minutes
    works = [task(given.rpm, minutes, bound) for bound in given.bound or ("requests", "tokens")]
    runs = [(kind, work, client) for work in works for kind in given.kind or LIMITER_KINDS for client in CLIENTS]
    print(table(runs, asyncio.run(measure(runs))))


if __name__ == "__main__":
    main()
