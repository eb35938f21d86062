"""How long until something happens: ``python -m tests.benchmarks.startup [--repeat N]``.

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

from tests.benchmarks.measure import ENVIRONMENT, PROGRAMS, REPOSITORY, run, show, write_jobs
from tests.benchmarks.replay import events

HELP_TARGET_S, FIRST_TARGET_S = 0.15, 0.35
OURS = (sys.executable, "-m", "processor")


def until_first_request(command: Sequence[str], listener: socket.socket) -> float:
    """Seconds. The request is answered with a whole reply, so that the program ends well."""
    began = time.perf_counter()
    child = subprocess.Popen(command, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    connection, _ = listener.accept()
    connection.recv(1)
    arrived = time.perf_counter()
    while not connection.recv(1 << 20).endswith(b"}"):
        pass
    connection.sendall(b"".join(events(10)))
    assert child.wait() == 0, command
    connection.close()
    return arrived - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=15)
    given = parser.parse_args()
    nothing, helping, bare, first = [], [], [], []
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as listener:
        folder = Path(name)
        jobs = str(write_jobs(folder / "jobs.jsonl", 1))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        for turn in range(given.repeat):
            nothing.append(run([sys.executable, "-c", "pass"]).cpu_s)
            helping.append(run([*OURS, "--help"]).cpu_s)
            bare.append(until_first_request([sys.executable, str(PROGRAMS / "bare.py"), url], listener))
            out = ["--out", str(folder / f"{turn}.jsonl"), "--base-url", url, "--no-progress", "--quiet"]
            first.append(until_first_request([*OURS, jobs, *out], listener))
    rows = [
        row("process --help, CPU", median(helping), "python -c pass", median(nothing), HELP_TARGET_S),
        row("first request, wall", median(first), "bare aiohttp script", median(bare), FIRST_TARGET_S),
    ]
    show("Starting", ["", "takes", "beside", "which takes", "more by", "target"], rows)


def row(what: str, taken_s: float, beside: str, base_s: float, target_s: float) -> list[str]:
    return [what, f"{taken_s:.2f} s", beside, f"{base_s:.2f} s", f"{taken_s - base_s:.2f} s", f"{target_s:.2f} s"]


if __name__ == "__main__":
    main()
