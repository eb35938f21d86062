"""How much of a rate limit is used, over HTTP, in real minutes: ``python -m tests.benchmarks.limits``.

Five kinds of server, bound by requests and by tokens, each with this program and, on a server of its own, a naive
client: a full bucket (aiolimiter's AsyncLimiter(limit, 60)) with backoff on 429. First come all runs of this program, a
few seconds apart, then all naive ones, so that no run delays the requests of another. The servers are in one process on
the last core, the clients on the others: at a few requests a second none of them is busy. The servers' rate limiters
report the least time that the limit allows for these jobs, the time from the first admission to the last, and the 429s.

    limits [--rpm 300] [--minutes 5.5] [--bound requests|tokens] [--kind KIND]... [--beside FOLDER]   15 minutes or more
    limits --short                                                                                    5 minutes
    limits --rpm 30000 --bound requests --kind KIND --reply-s 2 --minutes 2        large limits, one kind at a time
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
from tests.benchmarks.measure import CORES, SERVER_CORE, THIS, Checkout, add_beside, checkouts

Bound = Literal["requests", "tokens"]
FULL_BUCKET = "full bucket"
SHORT_MINUTES = 1.5
MIN_SLOTS, MAX_SLOTS = 2_000, 10_000
"""Requests in flight: as many as a limit lets through at once, as far as one process can serve their connections."""
START_INTERVAL_S = 3.0
"""Time between the starts of two programs: starting takes a core for a second."""
CLIENT_CORES = set(CORES) - {SERVER_CORE} or set(CORES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The jobs and limits, the same for every server and client."""

    rpm: int
    tpm: int | None
    max_tokens: list[int]
    """By job: the tokens that a job counts for."""
    first_token_s: float

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
class Measurement:
    """What a server has counted when its client is done."""

    ideal_s: float
    took_s: float
    throttled: int


def task(rpm: int, minutes: float, bound: Bound, reply_s: float) -> Task:
    rng = random.Random(7)
    costs = [rng.randint(60, 240) if bound == "tokens" else 40 for _ in range(round(rpm * minutes))]
    tpm = round(rpm * sum(costs) / len(costs)) if bound == "tokens" else None
    return Task(rpm=rpm * 10 if bound == "tokens" else rpm, tpm=tpm, max_tokens=costs, first_token_s=reply_s)


# ------------------------------------------------------------ the servers, in a process of their own


def settings(kind: LimiterKind, work: Task) -> SimulatorSettings:
    return SimulatorSettings(
        rpm=work.rpm,
        tpm=work.tpm,
        kind=kind,
        first_token_s=work.first_token_s,
        speed_tps=400.0,
        write_batch_s=0.5,
        reply_tokens=(5, 30),
    )


async def serve_all() -> None:
    """Reads a line with kinds and tasks; writes a line with URLs and, when stdin ends, one with the measurements."""
    orders = [(kind, Task(**work)) for kind, work in orjson.loads(sys.stdin.buffer.readline())]
    servers = [await serve(SimulatedProvider(settings(kind, work))) for kind, work in orders]
    print(orjson.dumps([server.base_url for server in servers]).decode(), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    for server in servers:
        await server.close()
    measurements = [measurement(server, work) for server, (_, work) in zip(servers, orders, strict=True)]
    print(orjson.dumps([asdict(one) for one in measurements]).decode(), flush=True)


def measurement(server: SimulatorServer, work: Task) -> Measurement:
    limiter = server.provider.rate_limiter
    return Measurement(
        ideal_s=limiter.min_duration_s(work.max_tokens),
        took_s=limiter.log.last_at - limiter.log.first_at,
        throttled=sum(limiter.log.throttled.values()),
    )


# ------------------------------------------------------------ the clients


async def run_process(checkout: Checkout, base_url: str, kind: LimiterKind, work: Task) -> None:
    """Tokens are counted as the server counts them, which is OpenAI's way."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = Path(folder) / "jobs.jsonl"
        jobs.write_bytes(b"".join(orjson.dumps({"id": str(n), **body}) + b"\n" for n, body in enumerate(work.bodies())))
        config = Path(folder) / "config.toml"
        config.write_text('[limits]\ncharging = "larger"\n')
        limits = ["--rpm", str(work.rpm)] + (["--tpm", str(work.tpm)] if work.tpm else [])
        slots = str(min(MAX_SLOTS, max(MIN_SLOTS, work.rpm)))
        words = ["run", str(jobs), "--out", f"{folder}/results.jsonl", "--base-url", base_url, "--quiet"]
        words += ["--config", str(config), "--concurrency", slots, *(limits if kind == "silent" else [])]
        process = await asyncio.create_subprocess_exec(
            *checkout.process(*words), cwd=checkout.folder, env=checkout.environment
        )
        if await process.wait() != 0:
            raise SystemExit(f"process {' '.join(words)} failed")


async def run_full_bucket(base_url: str, kind: LimiterKind, work: Task) -> None:
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


async def run_client(
    delay_s: float, client: str, chosen: dict[str, Checkout], base_url: str, kind: LimiterKind, work: Task
) -> None:
    await asyncio.sleep(delay_s)
    if client in chosen:
        await run_process(chosen[client], base_url, kind, work)
    else:
        await run_full_bucket(base_url, kind, work)


async def measure(runs: Sequence[tuple[LimiterKind, Task, str]], chosen: dict[str, Checkout]) -> list[Measurement]:
    os.sched_setaffinity(0, {SERVER_CORE})
    servers = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks.limits",
        "--serve",
        cwd=THIS.folder,
        env=THIS.environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    os.sched_setaffinity(0, CLIENT_CORES)
    assert servers.stdin is not None
    assert servers.stdout is not None
    try:
        servers.stdin.write(orjson.dumps([(kind, asdict(work)) for kind, work, _ in runs]) + b"\n")
        urls = orjson.loads(await servers.stdout.readline())
        for client in (*chosen, FULL_BUCKET):
            mine = [(url, kind, work) for url, (kind, work, of) in zip(urls, runs, strict=True) if of == client]
            await asyncio.gather(
                *(run_client(n * START_INTERVAL_S, client, chosen, *one) for n, one in enumerate(mine))
            )
    finally:
        servers.stdin.close()
    measurements = [Measurement(**one) for one in orjson.loads(await servers.stdout.readline())]
    await servers.wait()
    return measurements


# ------------------------------------------------------------ the table


def table(runs: Sequence[tuple[LimiterKind, Task, str]], measurements: Sequence[Measurement]) -> str:
    lines = [
        "| limit a minute | jobs | server | client | ideal | took | × ideal | utilisation | 429s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (kind, work, client), one in zip(runs, measurements, strict=True):
        ratio, used = one.took_s / max(one.ideal_s, 1e-9), one.ideal_s / max(one.took_s, 1e-9)
        # If all jobs fit into one burst, there is no time to compare with.
        compared = f"{ratio:.3f} | {100 * used:.1f} %" if one.ideal_s else "- | -"
        lines.append(
            f"| {work.limit:,} {work.bound} | {len(work.max_tokens):,} | {kind} | {client} | {one.ideal_s:.1f} s"
            f" | {one.took_s:.1f} s | {compared} | {one.throttled} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rpm", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=5.5, help="of work at the limit")
    parser.add_argument("--reply-s", type=float, default=0.3, help="from a request to its first token")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_MINUTES} minutes of work")
    parser.add_argument("--bound", choices=("requests", "tokens"), action="append")
    parser.add_argument("--kind", choices=LIMITER_KINDS, action="append")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    add_beside(parser)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve_all())
        return
    minutes = SHORT_MINUTES if arguments.short else arguments.minutes
    works = [
        task(arguments.rpm, minutes, bound, arguments.reply_s) for bound in arguments.bound or ("requests", "tokens")
    ]
    chosen = {checkout.name: checkout for checkout in checkouts(arguments)}
    clients = (*chosen, FULL_BUCKET)
    runs = [(kind, work, client) for work in works for kind in arguments.kind or LIMITER_KINDS for client in clients]
    print(table(runs, asyncio.run(measure(runs, chosen))))


if __name__ == "__main__":
    main()
