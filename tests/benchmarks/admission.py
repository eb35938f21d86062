"""Requests a second through reading, gate, journal and settling: ``python tests/benchmarks/admission.py [--full]``.

Each size runs in a process of its own; what a job costs must not depend on how many there are. --full goes on to
1,000,000 jobs. Memory is measured in the same runs: see `memory.py`.
"""

from __future__ import annotations

import argparse
from statistics import median

from measure import admit, show

SIZES = (1_000, 10_000, 50_000)
FULL = (1_000, 10_000, 100_000, 1_000_000)
TARGET = 5_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    sizes = FULL if given.full else SIZES
    taken = {size: [] for size in sizes}
    for _ in range(given.repeat):
        for size in sizes:
            said = admit(size).said.split()
            taken[size].append((float(said[0]), float(said[1])))
    rows = []
    for size, samples in taken.items():
        rate, cost_us = (median(values) for values in zip(*samples, strict=True))
        rows.append([f"{size:,}", f"{rate:,.0f}", f"{TARGET:,}", f"{cost_us:.0f} us"])
    show("Through gate, journal and settling, in memory", ["jobs", "jobs a second", "target", "CPU a job"], rows)


if __name__ == "__main__":
    main()
