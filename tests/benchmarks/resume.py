"""Time to the first request of a run with a million rows: ``python -m tests.benchmarks.resume [--rows N] ...``.

Writes a job file with one job more than there are rows (kept for the next time), jobs of 0.5 KB and rows of 1.5 KB, and
starts ``process jobs.jsonl --out results.jsonl --base-url ...``. The clock stops when the first byte of its first
request arrives. The files are read once before: the target is for a warm cache.

``--unnamed``: the jobs have no custom_id. ``--failed``: every tenth row states a permanent failure, which is not sent
again. ``--beside FOLDER``: measures another checkout, too.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import gettempdir

import orjson

from processor.core.models import JSON, Failure, Reply, Result, Timing, Usage
from processor.input.fingerprints import fingerprint
from processor.output.row_json import encode_row
from processor.protocols.registry import DEFAULT_PATH as CHAT
from tests.benchmarks.measure import Checkout, add_beside, checkouts

SYSTEM = "You answer letters from customers, kindly and in one paragraph."
LETTER = "Letter {n}: it came late, the box was open, and item {n} was missing. " * 4
ANSWER = "We are sorry that it came late, \n and will send “the missing item” tomorrow. " * 12
ROW = Result(
    fingerprint="",
    custom_id="",
    line=0,
    reply=Reply(
        status_code=200,
        request_id="req-123",
        body={
            "id": "chatcmpl-123",
            "object": "chat.completion",
            "created": 1700000000,
            "model": "gpt-4o-mini",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 250, "total_tokens": 350},
        },
    ),
    usage=Usage(prompt_tokens=100, completion_tokens=250),
    reported=Usage(prompt_tokens=100, completion_tokens=250),
    attempts=1,
    timing=Timing(started_at="2026-01-01T00:00:00.000Z", queued_s=0.01, first_token_s=0.3, total_s=2.5),
    cost_usd=0.0001,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a run used until its first request."""

    wall_s: float
    cpu_s: float
    """CPU time of all its processes to its end; it is stopped when its first request arrives."""
    peak_bytes: int
    """Peak memory of its main process."""


def body(n: int) -> JSON:
    letter = {"role": "user", "content": LETTER.format(n=n)}
    return {"model": "gpt-4o-mini", "messages": [{"role": "system", "content": SYSTEM}, letter], "max_tokens": 500}


REFUSED = Failure(code="rejected", message="it may not be", permanent=True)


def write(folder: Path, rows: int, *, named: bool, failed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / "jobs.jsonl").open("wb", buffering=1 << 20) as jobs,
        (folder / "results.errors.jsonl").open("wb", buffering=1 << 20) as failures,
        (folder / "results.jsonl").open("wb", buffering=1 << 20) as replies,
    ):
        for n in range(1, rows + 2):
            mark = fingerprint(CHAT, body(n))
            name = f"letter-{n}" if named else mark
            job = {"custom_id": name} if named else {}
            jobs.write(orjson.dumps({**job, "method": "POST", "url": CHAT, "body": body(n)}) + b"\n")
            row = replace(ROW, custom_id=name, fingerprint=mark, line=n)
            if n <= rows and failed and n % 10 == 0:
                failures.write(encode_row(replace(row, failure=REFUSED)))
            elif n <= rows:
                replies.write(encode_row(row))


def start(folder: Path, checkout: Checkout) -> Start:
    """Raises AssertionError if it ends without a request."""
    jobs, results = folder / "jobs.jsonl", folder / "results.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(300)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        flags = ["--out", str(results), "--base-url", url, "--quiet", "--grace", "0"]
        started_at = time.perf_counter()
        child = subprocess.Popen(
            checkout.process(str(jobs), *flags),
            cwd=checkout.folder,
            env={**checkout.environment, "OPENAI_API_KEY": "not-a-key"},
        )
        with server.accept()[0] as connection:
            assert connection.recv(1)
            wall_s = time.perf_counter() - started_at
            child.terminate()
        _, _, used = os.wait4(child.pid, 0)
        child.returncode = 0
        return Start(wall_s=wall_s, cpu_s=used.ru_utime + used.ru_stime, peak_bytes=used.ru_maxrss * 1024)


def warm(*paths: Path) -> int:
    """Read files into the page cache; returns their size in bytes."""
    size = 0
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(1 << 20):
                size += len(chunk)
    return size


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path(gettempdir()))
    parser.add_argument("--unnamed", action="store_true")
    parser.add_argument("--failed", action="store_true")
    add_beside(parser)
    arguments = parser.parse_args()
    kinds = ["unnamed"] * arguments.unnamed + ["failed"] * arguments.failed
    folder = arguments.folder / "-".join(["resume", str(arguments.rows), *kinds])
    for each, rows in ((folder / "one", 1), (folder, arguments.rows)):
        if not (each / "results.jsonl").exists():
            write(each, rows, named=not arguments.unnamed, failed=arguments.failed)
    size = warm(*folder.glob("*.jsonl"))
    print(", ".join([f"{arguments.rows:,} rows and {arguments.rows + 1:,} jobs", f"{size / 1e9:.2f} GB", *kinds]))
    for checkout in checkouts(arguments):
        alone, found = start(folder / "one", checkout), start(folder, checkout)
        print(f"{checkout.name}: first request after {found.wall_s:.1f} s, with one row after {alone.wall_s:.1f} s")
        held = (found.peak_bytes - alone.peak_bytes) / arguments.rows
        print(f"    {found.cpu_s:.1f} s of CPU; {held:.1f} bytes a job at the peak")


if __name__ == "__main__":
    main()
