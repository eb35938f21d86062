"""What a job costs in reading, gate, journal and settling: ``python -m tests.benchmarks.admission [--full]``.

No HTTP: see `programs/admit.py`. Each size runs in a process of its own; what a job costs must not depend on how many
there are. --full goes on to 1,000,000 jobs. Beside it, in turns, the floor of `throughput.py`: the target of 5,000 jobs
a second was set where a request of the floor takes 0.42 ms, of which 0.2 ms are 0.48.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import admit, server, show
from tests.benchmarks.throughput import FLOOR, MODES, programs, sample

SIZES = (1_000, 10_000, 50_000)
FULL = (1_000, 10_000, 100_000, 1_000_000)
TARGET = 0.48


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    sizes = FULL if given.full else SIZES
    taken: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    floor_us = []
    floor, mode = next(program for program in programs() if program.name == FLOOR), MODES["whole"]
    with tempfile.TemporaryDirectory() as folder, server(mode.chunks, mode.over_s) as started:
        for _ in range(given.repeat):
            for size in sizes:
                rate, cost_us = map(float, admit(size).said.split())
                taken[size].append((rate, cost_us))
                floor_us.append(1000 * sample(floor, mode, started, Path(folder)).cpu_s)
    rows = []
    for size, samples in taken.items():
        rate, cost_us = (median(values) for values in zip(*samples, strict=True))
        ratio = cost_us / median(floor_us)
        rows.append([f"{size:,}", f"{rate:,.0f}", f"{cost_us:.0f} us", f"{ratio:.2f} x", f"{TARGET:.2f} x"])
    show(
        f"Through gate, journal and settling, in memory; a request of the floor takes {median(floor_us):.0f} us",
        ["jobs", "jobs a second", "CPU a job", "to the floor", "target"],
        rows,
    )


if __name__ == "__main__":
    main()
