"""How much of several limits is used at once, over HTTP: ``python -m tests.benchmarks.several_endpoints``.

Three runs at the same time, each with endpoints of its own, all in one server process:

    two      a window and a bucket of 300 a minute each
    ten      30, 60, ... 300 a minute, windows and buckets in turns
    shared   two addresses of one account of 300 a minute (``limit_group``), and an endpoint of its own of 300

What the counters of the servers report: the least time from the first admission to the last, if the jobs had been
shared out at best; the time that it took; and the refusals.

    several_endpoints [--minutes 3]      at the limit, after what the counters hold at first; takes two minutes more
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

import orjson

from processor.simulator.http_server import SimulatorServer, serve
from processor.simulator.provider import SimulatedProvider
from processor.simulator.rate_limiter import LimiterKind
from processor.simulator.settings import SimulatorSettings
from tests.benchmarks.measure import THIS, show


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What has one set of limits. ``addresses``: of how many endpoints."""

    rpm: int
    kind: LimiterKind
    addresses: int = 1


CASES: dict[str, tuple[Account, ...]] = {
    "two": (Account(rpm=300, kind="sliding"), Account(rpm=300, kind="minute")),
    "ten": tuple(Account(rpm=30 * n, kind="minute" if n % 2 else "sliding") for n in range(1, 11)),
    "shared": (Account(rpm=300, kind="minute", addresses=2), Account(rpm=300, kind="minute")),
}


def tables(servers: list[SimulatorServer], accounts: tuple[Account, ...]) -> str:
    """The settings file of a run. The simulator takes any path that ends in that of an API."""
    text = ""
    for at, (server, account) in enumerate(zip(servers, accounts, strict=True)):
        for address in range(account.addresses):
            base_url = server.base_url.replace("/v1", f"/{address}/v1")
            text += f'[[endpoints]]\nname = "e{at}-{address}"\nbase_url = "{base_url}"\n'
            text += f'limit_group = "account {at}"\n' if account.addresses > 1 else ""
    return text


def least_s(accounts: tuple[Account, ...], jobs: int) -> float:
    """The least time in which the accounts admit so many requests: found by halving."""

    def admitted_by(account: Account, at: float) -> int:
        if account.kind == "sliding":
            return account.rpm * (1 + int(at // 60))
        return account.rpm + int(at * account.rpm / 60)

    low, high = 0.0, 3600.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        if sum(admitted_by(account, middle) for account in accounts) >= jobs:
            high = middle
        else:
            low = middle
    return high


async def play(accounts: tuple[Account, ...], minutes: float) -> list[str]:
    servers = [
        await serve(
            SimulatedProvider(SimulatorSettings(rpm=account.rpm, kind=account.kind, canned=True, first_token_s=0.3))
        )
        for account in accounts
    ]
    jobs = round((1 + minutes) * sum(account.rpm for account in accounts))
    with tempfile.TemporaryDirectory() as folder:
        lines = (orjson.dumps({"id": f"{n}", "model": "m", "prompt": f"Say {n}."}) + b"\n" for n in range(jobs))
        (Path(folder) / "jobs.jsonl").write_bytes(b"".join(lines))
        (Path(folder) / "mine.toml").write_text(tables(servers, accounts))
        words = ["jobs.jsonl", "--out", "results.jsonl", "--config", "mine.toml", "--quiet", "--concurrency", "2000"]
        process = await asyncio.create_subprocess_exec(*THIS.process(*words), cwd=folder, env=THIS.environment)
        assert await process.wait() == 0
        rows = (Path(folder) / "results.jsonl").read_bytes().count(b"\n")
    logs = [server.provider.rate_limiter.log for server in servers]
    for server in servers:
        await server.close()
    assert rows == jobs == sum(log.admitted for log in logs)
    took_s, ideal_s = max(log.last_at for log in logs) - min(log.first_at for log in logs), least_s(accounts, jobs)
    refused = sum(sum(log.throttled.values()) for log in logs)
    return [f"{jobs:,}", f"{ideal_s:.1f} s", f"{took_s:.1f} s", f"{took_s / ideal_s:.3f}", f"{refused}"]


async def play_all(minutes: float) -> None:
    found = await asyncio.gather(*(play(accounts, minutes) for accounts in CASES.values()))
    rows = [[name, *numbers] for name, numbers in zip(CASES, found, strict=True)]
    show("Over HTTP", ["endpoints", "jobs", "least time", "took", "x least", "429s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    asyncio.run(play_all(parser.parse_args().minutes))


if __name__ == "__main__":
    main()
