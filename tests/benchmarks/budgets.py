"""Plays seeded runs with a budget: ``python -m tests.benchmarks.budgets [N]``, 500 by default. Half a minute of CPU.

Each is some runs on one output, with jobs of all sizes, faults, kills and resumes, on the virtual clock. It fails where
more than the budget is spent, or where a run stops although the next job would have fitted.
"""

from __future__ import annotations

import sys
from time import process_time

from tests.benchmarks.measure import show
from tests.support.budget_campaign import play

FIRST_SEED = 1000
"""The tests play others."""


def main(number: int = 500) -> None:
    began, failed = process_time(), []
    for seed in range(FIRST_SEED, FIRST_SEED + number):
        try:
            play(seed)
        except AssertionError as error:
            failed.append(seed)
            print(f"seed {seed}: {error}", file=sys.stderr)
    show("Budgets", ["runs", "failed", "CPU"], [[f"{number}", f"{len(failed)}", f"{process_time() - began:.0f} s"]])
    sys.exit(bool(failed))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
