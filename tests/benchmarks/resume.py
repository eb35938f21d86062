"""How soon a run with a million finished rows sends again: ``python tests/benchmarks/resume.py [ROWS] [FOLDER]``.

Writes a job file with one job more than RESULTS has rows (kept for the next time), jobs of 0.5 KB and rows of 1.5 KB,
and starts ``process jobs.jsonl --out results.jsonl --base-url ...`` as a person would. The clock stops when the first
byte of its first request arrives. The files are read once before: the promise is about a warm cache.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import gettempdir

import orjson

from processor.models import JSON, Reply, Result, Timing, Usage
from processor.reading.fingerprints import fingerprint
from processor.reading.formats import CHAT
from processor.results.rows import encode

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
    usage_source="reported",
    attempts=1,
    timing=Timing(started_at="2026-01-01T00:00:00.000Z", queued_s=0.01, first_token_s=0.3, total_s=2.5),
    cost_usd=0.0001,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """From the command to its first request."""

    wall_s: float
    cpu_s: float
    """Of all its processes, to its end: it is stopped as soon as it sends."""
    peak_bytes: int
    """Of its main process."""


def body(n: int) -> JSON:
    letter = {"role": "user", "content": LETTER.format(n=n)}
    return {"model": "gpt-4o-mini", "messages": [{"role": "system", "content": SYSTEM}, letter], "max_tokens": 500}


def write(jobs: Path, results: Path, rows: int) -> None:
    with jobs.open("wb", buffering=1 << 20) as job_file, results.open("wb", buffering=1 << 20) as row_file:
        for n in range(1, rows + 2):
            job = {"custom_id": f"letter-{n}", "method": "POST", "url": CHAT, "body": body(n)}
            job_file.write(orjson.dumps(job) + b"\n")
            if n <= rows:
                row = replace(ROW, custom_id=f"letter-{n}", fingerprint=fingerprint(CHAT, body(n)), line=n)
                row_file.write(encode(row))


def start(jobs: Path, results: Path) -> Start:
    """Raises AssertionError where it ends without a request."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(300)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        command = [sys.executable, "-m", "processor", str(jobs), "--out", str(results), "--base-url", url, "--quiet"]
        began = time.perf_counter()
        child = subprocess.Popen(command, env={**os.environ, "OPENAI_API_KEY": "not-a-key"})
        with server.accept()[0] as connection:
            assert connection.recv(1)
            wall_s = time.perf_counter() - began
            child.terminate()
            child.terminate()
        _, _, used = os.wait4(child.pid, 0)
        child.returncode = 0
        return Start(wall_s=wall_s, cpu_s=used.ru_utime + used.ru_stime, peak_bytes=used.ru_maxrss * 1024)


def warm(*paths: Path) -> int:
    """Into the page cache; returns their bytes."""
    size = 0
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(1 << 20):
                size += len(chunk)
    return size


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else gettempdir()) / f"resume-{rows}"
    jobs, results = folder / "jobs.jsonl", folder / "results.jsonl"
    if not results.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write(jobs, results, rows)
    print(f"{rows:,} rows, {warm(results) / 1e9:.2f} GB; {rows + 1:,} jobs, {warm(jobs) / 1e9:.2f} GB")
    one = folder / "one"
    one.mkdir(exist_ok=True)
    if not (one / "results.jsonl").exists():
        write(one / "jobs.jsonl", one / "results.jsonl", 1)
    alone, found = start(one / "jobs.jsonl", one / "results.jsonl"), start(jobs, results)
    print(f"sending after {found.wall_s:.1f} s, of which {alone.wall_s:.1f} s with one row; {found.cpu_s:.1f} s of CPU")
    print(f"{(found.peak_bytes - alone.peak_bytes) / rows:.1f} bytes a job held at the peak")


if __name__ == "__main__":
    main()
