"""Whole replies, with the floor and this program under way at once: ``python -m tests.benchmarks.slices [--repeat N]``.

If the speed of the machine changes from second to second, programs that run one after the other are not measured alike.
Here they share one core and never run at the same time: each runs for a quarter of a second while the others are
stopped. The cost of a request is the CPU time from the first rows to the last slice but one, divided by these rows.
``--beside FOLDER`` adds the program of another checkout; ``--chunks 1 5 20 100 500 body`` measures replies of these
lengths, each in one write, and as one JSON body.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import (
    CLIENT_CORE,
    THIS,
    Checkout,
    add_beside,
    checkouts,
    pinned,
    server,
    show,
    write_jobs,
)
from tests.benchmarks.throughput import FLOOR, MODES, Program, checkout_programs, floor_program

SLICE_S = 0.25
STOP_DELAY_S = 0.002
"""Time in which a process stops after SIGSTOP."""
JOBS = 10_000
STREAMS = 64
WARM_UP_ROWS = 400
NS_PER_US = 1000


class Racer:
    """A program that runs in slices."""

    def __init__(self, program: Program, command: Sequence[str], out: Path) -> None:
        self._out = out
        self._marks: list[tuple[int, int]] = []
        """Rows and nanoseconds of CPU, after each slice."""
        with pinned(CLIENT_CORE):
            self._process = subprocess.Popen(
                command, cwd=program.checkout.folder, env=program.checkout.environment, stdout=subprocess.DEVNULL
            )
        self._process.send_signal(signal.SIGSTOP)

    def run_slice(self) -> bool:
        """Run for one slice. Returns whether the program is still running."""
        self._process.send_signal(signal.SIGCONT)
        time.sleep(SLICE_S)
        if self._process.poll() is not None:
            return False
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(STOP_DELAY_S)
        rows = self._out.read_bytes().count(b"\n") if self._out.exists() else 0
        if WARM_UP_ROWS <= rows < JOBS:
            self._marks.append((rows, self._cpu_ns()))
        return True

    def cost_us(self) -> float:
        """CPU time of a request. Raises AssertionError if the program failed."""
        assert self._process.returncode == 0, self._process.args
        (first_rows, first_ns), (last_rows, last_ns) = self._marks[0], self._marks[-1]
        return (last_ns - first_ns) / (last_rows - first_rows) / NS_PER_US

    def _cpu_ns(self) -> int:
        threads = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


def race(chosen: Sequence[Checkout], chunks: int) -> dict[str, float]:
    """Microseconds of CPU time of a request, by program. ``chunks``: in the reply; 0 for one JSON body."""
    with tempfile.TemporaryDirectory() as name, server(chunks, 0) as running:
        folder = Path(name)
        jobs = write_jobs(folder / "jobs.jsonl", JOBS, streamed=chunks > 0)
        racers = {}
        for number, program in enumerate((floor_program(), *checkout_programs(chosen))):
            out = folder / f"{number}.jsonl"
            line = program.line(jobs, out, running.base_url, STREAMS)
            racers[program.name] = Racer(program, line, out)
        under_way = list(racers.values())
        while under_way:
            under_way = [racer for racer in under_way if racer.run_slice()]
        return {name: racer.cost_us() for name, racer in racers.items()}


def rows_of(costs: Sequence[dict[str, float]], reply: str, target: str) -> Iterator[list[str]]:
    for name in costs[0]:
        ratios = sorted(each[name] / each[FLOOR] for each in costs)
        cost = f"{median(each[name] for each in costs):.0f} us"
        spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
        yield [reply, name, cost, f"{median(ratios):.2f} x", spread, target if name == THIS.name else ""]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--chunks", nargs="+", default=["100"], metavar="N", help="numbers of chunks, or `body`")
    add_beside(parser)
    arguments = parser.parse_args()
    rows: list[list[str]] = []
    for reply in arguments.chunks:
        costs = []
        for _ in range(arguments.repeat):
            costs.append(race(checkouts(arguments), 0 if reply == "body" else int(reply)))
            print(".", end="", file=sys.stderr, flush=True)
        rows.extend(rows_of(costs, reply, f"{MODES['whole'].target:.2f} x" if reply == "100" else ""))
    head = ["chunks", "", "CPU a request", "to the floor", "spread", "target"]
    show(f"Replies in one write, {STREAMS} streams", head, rows)


if __name__ == "__main__":
    main()
