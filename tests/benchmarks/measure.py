"""Shared by the benchmarks: runs programs, pins them to cores, starts the server, and prints tables.

Every benchmark that measures this program can measure another checkout of it in the same run:
``--beside FOLDER [--beside-python PYTHON]``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import orjson

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
REPOSITORY = HERE.parents[1]
CORES = sorted(os.sched_getaffinity(0))
CLIENT_CORE, SERVER_CORE = CORES[0], CORES[-1]

PROMPT = "Here is what a customer wrote about order {n}: it came late, the box was open, and item {n} was missing. " * 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A copy of this program: its folder, and the Python that runs it."""

    name: str
    folder: Path
    python: str

    @property
    def environment(self) -> dict[str, str]:
        """The package of the folder is imported, installed or not, and its bytecode is cached."""
        return {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": ""}

    def process(self, *arguments: str) -> list[str]:
        """The command line of ``process``."""
        return [self.python, "-m", "processor", *arguments]

    def benchmark_program(self, name: str, *arguments: str) -> list[str]:
        """The command line of a program of the checkout's own ``tests/benchmarks/programs``."""
        return [self.python, str(self.folder / "tests" / "benchmarks" / "programs" / f"{name}.py"), *arguments]


THIS = Checkout(name="process", folder=REPOSITORY, python=sys.executable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a program used, from its start to its end."""

    cpu_s: float
    """User and system time of all threads, and of child processes that were waited for."""
    wall_s: float
    peak_bytes: int
    output: str
    """What it wrote to standard output."""


@dataclass(slots=True)
class Server:
    """The replaying server."""

    base_url: str
    utilization: float = 0.0
    """The share of its core that it used; known after it has been closed."""


def add_beside(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name another checkout."""
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help="another checkout, measured in the same run")
    parser.add_argument("--beside-python", default=sys.executable, metavar="PYTHON", help="the Python that runs it")


def checkouts(arguments: argparse.Namespace) -> list[Checkout]:
    """This checkout, and the one of ``--beside`` if given. Raises SystemExit if there is none in that folder."""
    if arguments.beside is None:
        return [THIS]
    folder = arguments.beside.resolve()
    if not (folder / "processor" / "__main__.py").is_file():
        raise SystemExit(f"{folder} holds no checkout of this program")
    return [THIS, Checkout(name=f"process of {folder.name}", folder=folder, python=arguments.beside_python)]


def run(command: Sequence[str], *, checkout: Checkout = THIS, core: int | None = CLIENT_CORE) -> Cost:
    """Run a program to its end in the folder of a checkout. Raises RuntimeError if it fails. ``core``: None for all."""
    started_at = time.perf_counter()
    with nullcontext() if core is None else pinned(core):
        child = subprocess.Popen(
            command, cwd=checkout.folder, env=checkout.environment, stdout=subprocess.PIPE, text=True
        )
    assert child.stdout is not None
    output = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}")
    return Cost(
        cpu_s=used.ru_utime + used.ru_stime,
        wall_s=time.perf_counter() - started_at,
        peak_bytes=used.ru_maxrss * 1024,
        output=output,
    )


def admit(jobs: int, checkout: Checkout = THIS, *, endpoints: int = 1) -> Cost:
    """A run of this many jobs without HTTP; see `programs/admit.py`. Other checkouts may know one endpoint only."""
    several = [str(endpoints)] if endpoints > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        return run(checkout.benchmark_program("admit", str(jobs), folder, *several), checkout=checkout)


@contextmanager
def server(chunks: int, over_s: float, capacity: int | None = None) -> Iterator[Server]:
    """The replaying server, on a core of its own. ``capacity``: see ``replay``."""
    more = [] if capacity is None else [str(capacity)]
    command = [sys.executable, "-m", "tests.benchmarks.replay", str(chunks), str(over_s), *more]
    with pinned(SERVER_CORE):
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=THIS.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    assert process.stdin is not None and process.stdout is not None
    running = Server(base_url=f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
    try:
        yield running
    finally:
        process.stdin.close()
        cpu_s, wall_s = map(float, process.stdout.readline().split())
        running.utilization = cpu_s / wall_s
        process.wait()


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Processes that are started inside stay on this core."""
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


def write_jobs(path: Path, count: int, *, streamed: bool = True) -> Path:
    """Write jobs of about 200 tokens, no two alike. ``streamed``: False for jobs that ask for one JSON body."""
    with path.open("wb") as file:
        for n in range(count):
            messages = [
                {"role": "system", "content": "You answer letters from customers, kindly and in one paragraph."},
                {"role": "user", "content": PROMPT.format(n=n)},
            ]
            body = {"model": "gpt-4o-mini", "messages": messages} | ({} if streamed else {"stream": False})
            job = {"custom_id": f"job-{n}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(orjson.dumps(job) + b"\n")
    return path


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    print(f"\n{title}\n")
    for row in (head, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
