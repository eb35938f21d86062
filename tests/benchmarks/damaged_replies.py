"""Reads a million damaged replies and a hundred thousand cut ones: no exception but the program's own, no cut one kept.

python -m tests.benchmarks.damaged_replies [--streams N] [--cuts N] [--seed N]
"""

from __future__ import annotations

import argparse
import random
import time

from tests.support.mutations import read_cut, read_mutated


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--streams", type=int, default=1_000_000)
    arguments.add_argument("--cuts", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    for name, read, count in (("damaged", read_mutated, options.streams), ("cut", read_cut, options.cuts)):
        began, kept = time.perf_counter(), 0
        for number in range(count):
            seed = options.seed + number
            try:
                kept += read(random.Random(seed))
            except Exception:
                print(f"{name} reply, seed {seed}:", flush=True)
                raise
        print(f"{count:,} {name} replies in {time.perf_counter() - began:.0f} s: {kept:,} read whole", flush=True)


if __name__ == "__main__":
    main()
