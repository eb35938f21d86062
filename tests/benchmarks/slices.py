"""Whole replies, floor and this program under way at once: ``python -m tests.benchmarks.slices [--repeat N]``.

Where the machine's speed changes from one second to the next, programs that run one after the other are not measured
alike. These share one core, and never run at the same time: each goes for a quarter of a second while the other is
stopped. What a request costs is the CPU time from the first rows on to the last slice but one, by the rows of it.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import CLIENT_CORE, ENVIRONMENT, REPOSITORY, on, server, show, write_jobs
from tests.benchmarks.throughput import FLOOR, MODES, OURS, programs

SLICE_S = 0.25
SETTLES_S = 0.002
"""Until a process that was told to stop has stopped."""
JOBS = 10_000
WARM_ROWS = 400
NS_PER_US = 1000


class Racer:
    def __init__(self, command: Sequence[str], out: Path) -> None:
        self._out = out
        self._marks: list[tuple[int, int]] = []
        """Rows and nanoseconds of CPU, after each slice."""
        with on(CLIENT_CORE):
            self._process = subprocess.Popen(command, cwd=REPOSITORY, env=ENVIRONMENT)
        self._process.send_signal(signal.SIGSTOP)

    def slice(self) -> bool:
        """Go for one slice. Returns whether it goes on."""
        self._process.send_signal(signal.SIGCONT)
        time.sleep(SLICE_S)
        if self._process.poll() is not None:
            return False
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(SETTLES_S)
        rows = self._out.read_bytes().count(b"\n") if self._out.exists() else 0
        if WARM_ROWS <= rows < JOBS:
            self._marks.append((rows, self._cpu_ns()))
        return True

    def cost_us(self) -> float:
        """Of a request. Raises AssertionError where the program failed."""
        assert self._process.returncode == 0, self._process.args
        (first_rows, first_ns), (last_rows, last_ns) = self._marks[0], self._marks[-1]
        return (last_ns - first_ns) / (last_rows - first_rows) / NS_PER_US

    def _cpu_ns(self) -> int:
        threads = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


def race() -> dict[str, float]:
    """Microseconds of CPU a request, by program."""
    mode = MODES["whole"]
    with tempfile.TemporaryDirectory() as name, server(mode.chunks, mode.over_s) as started:
        folder = Path(name)
        jobs = write_jobs(folder / "jobs.jsonl", JOBS)
        racers = {}
        for number, program in enumerate(program for program in programs() if program.name in (FLOOR, OURS)):
            out = folder / f"{number}.jsonl"
            racers[program.name] = Racer(program.line(jobs, out, started.base_url, mode.streams), out)
        under_way = list(racers.values())
        while under_way:
            under_way = [racer for racer in under_way if racer.slice()]
        return {name: racer.cost_us() for name, racer in racers.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=5)
    costs = []
    for _ in range(parser.parse_args().repeat):
        costs.append(race())
        print(".", end="", file=sys.stderr, flush=True)
    ratios = sorted(each[OURS] / each[FLOOR] for each in costs)
    row = [
        f"{median(each[FLOOR] for each in costs):.0f} us",
        f"{median(each[OURS] for each in costs):.0f} us",
        f"{median(ratios):.2f} x",
        f"{ratios[0]:.2f}-{ratios[-1]:.2f}",
        f"{MODES['whole'].target:.2f} x",
    ]
    show(MODES["whole"].title, ["floor", OURS, "to the floor", "spread", "target"], [row])


if __name__ == "__main__":
    main()
