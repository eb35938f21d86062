"""Time to start: ``python -m tests.benchmarks.startup [--repeat N] [--beside FOLDER]``.

CPU time of `process --help`, beside a Python that does nothing; wall time from starting `process JOBS` to the arrival
of its first request, beside a script that imports aiohttp and sends one. Medians, interleaved.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import PROGRAMS, THIS, Checkout, add_beside, checkouts, run, show, write_jobs
from tests.benchmarks.replay import events

HELP_TARGET_S, FIRST_TARGET_S = 0.15, 0.35


def until_first_request(command: Sequence[str], listener: socket.socket, checkout: Checkout = THIS) -> float:
    """Seconds until the first request arrives. It gets a whole reply, so that the program ends normally."""
    started_at = time.perf_counter()
    child = subprocess.Popen(command, cwd=checkout.folder, env=checkout.environment, stdout=subprocess.DEVNULL)
    connection, _ = listener.accept()
    connection.recv(1)
    arrived_at = time.perf_counter()
    while not connection.recv(1 << 20).endswith(b"}"):
        pass
    connection.sendall(b"".join(events(10)))
    assert child.wait() == 0, command
    connection.close()
    return arrived_at - started_at


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=15)
    add_beside(parser)
    arguments = parser.parse_args()
    chosen = checkouts(arguments)
    nothing: list[float] = []
    bare: list[float] = []
    helping: dict[str, list[float]] = {checkout.name: [] for checkout in chosen}
    first: dict[str, list[float]] = {checkout.name: [] for checkout in chosen}
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as listener:
        folder = Path(name)
        jobs = str(write_jobs(folder / "jobs.jsonl", 1))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        for turn in range(arguments.repeat):
            nothing.append(run([sys.executable, "-c", "pass"]).cpu_s)
            bare.append(until_first_request([sys.executable, str(PROGRAMS / "bare.py"), url], listener))
            for number, checkout in enumerate(chosen):
                helping[checkout.name].append(run(checkout.process("--help"), checkout=checkout).cpu_s)
                flags = ("--out", str(folder / f"{turn}-{number}.jsonl"), "--base-url", url, "--no-progress", "--quiet")
                first[checkout.name].append(until_first_request(checkout.process(jobs, *flags), listener, checkout))
    rows = []
    for name, times in helping.items():
        rows.append(row(f"{name} --help, CPU", median(times), "python -c pass", median(nothing), HELP_TARGET_S))
    for name, times in first.items():
        rows.append(
            row(f"{name}, first request, wall", median(times), "bare aiohttp script", median(bare), FIRST_TARGET_S)
        )
    show("Starting", ["", "takes", "beside", "which takes", "more by", "target"], rows)


def row(what: str, taken_s: float, beside: str, base_s: float, target_s: float) -> list[str]:
    return [what, f"{taken_s:.3f} s", beside, f"{base_s:.3f} s", f"{taken_s - base_s:.3f} s", f"{target_s:.2f} s"]


if __name__ == "__main__":
    main()
