"""Running programs side by side and saying what they cost: shared by the benchmarks of this folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
REPOSITORY = HERE.parents[1]
CORES = sorted(os.sched_getaffinity(0))
CLIENT_CORE, SERVER_CORE = CORES[0], CORES[-1]

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": ""}
"""What is measured is the program beside these files, installed or not; compiled, as it is where it is installed."""

PROMPT = "Here is what a customer wrote about order {n}: it came late, the box was open, and item {n} was missing. " * 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    cpu_s: float
    """User and system time, with all threads and children that were waited for."""
    wall_s: float
    peak_bytes: int
    said: str
    """On standard output."""


@dataclass(slots=True)
class Server:
    base_url: str
    busy: float = 0.0
    """The share of its core that it used; known when it has been closed."""


def run(command: Sequence[str], *, core: int = CLIENT_CORE) -> Cost:
    """Raises RuntimeError where the program fails."""
    began = time.perf_counter()
    with on(core):
        child = subprocess.Popen(command, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}")
    return Cost(
        cpu_s=used.ru_utime + used.ru_stime,
        wall_s=time.perf_counter() - began,
        peak_bytes=used.ru_maxrss * 1024,
        said=said,
    )


def admit(jobs: int) -> Cost:
    """A run of so many jobs with no HTTP; see `programs/admit.py`."""
    with tempfile.TemporaryDirectory() as folder:
        return run([sys.executable, str(PROGRAMS / "admit.py"), str(jobs), folder])


@contextmanager
def server(chunks: int, over_s: float) -> Iterator[Server]:
    """The replaying server, on a core of its own."""
    command = [sys.executable, str(HERE / "replay.py"), str(chunks), str(over_s)]
    with on(SERVER_CORE):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    started = Server(base_url=f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
    try:
        yield started
    finally:
        process.stdin.close()
        cpu_s, wall_s = map(float, process.stdout.readline().split())
        started.busy = cpu_s / wall_s
        process.wait()


@contextmanager
def on(core: int) -> Iterator[None]:
    """What is started inside stays on this core."""
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


def write_jobs(path: Path, count: int) -> Path:
    """Requests of about 200 tokens, no two alike."""
    with path.open("wb") as file:
        for n in range(count):
            messages = [
                {"role": "system", "content": "You answer letters from customers, kindly and in one paragraph."},
                {"role": "user", "content": PROMPT.format(n=n)},
            ]
            body = {"model": "gpt-4o-mini", "messages": messages}
            job = {"custom_id": f"job-{n}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(orjson.dumps(job) + b"\n")
    return path


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    print(f"\n{title}\n")
    for row in (head, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
