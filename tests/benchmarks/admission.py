"""The cost of a job without HTTP: ``python -m tests.benchmarks.admission [--full] [--endpoints] [--groups]``.

This covers reading, admission and output; see `programs/admit.py`. Each size runs in its own process; the cost of a
job must not depend on the number of jobs. --full goes on to 1,000,000. Beside it, in turns, runs the floor of
`throughput.py`: the target of 5,000 jobs a second was set on a machine where a request of the floor takes 0.42 ms, so
that 0.2 ms are 0.48 of it.

--endpoints measures runs of 10,000 jobs with 1, 10 and 100 endpoints instead.

--groups measures admission alone, on the virtual clock, with 1, 50 and 1,000 limit groups, and 1, 10 and 100 endpoints,
with and without a budget: byte codes, which do not depend on what else the machine does, and CPU. All jobs wait from
the start.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import add_beside, admit, checkouts, server, show
from tests.benchmarks.throughput import MODES, floor_program, sample
from tests.support.admission_cost import Bound, admission_cost

SIZES = (1_000, 10_000, 50_000)
FULL_SIZES = (1_000, 10_000, 100_000, 1_000_000)
ENDPOINTS = (1, 10, 100)
JOBS_FOR_ENDPOINTS = 10_000
TARGET = 0.48
GROUPS = (1, 50, 1_000)
JOBS_FOR_GROUPS = 2_000
WAYS: dict[str, tuple[bool, bool, tuple[Bound, ...]]] = {
    "one endpoint": (False, False, ("limits", "slots")),
    "several endpoints": (True, False, ("limits", "slots")),
    "with a budget": (True, True, ("limits", "slots", "budget")),
}
"""Whether there is a dispatcher, whether there is a budget, and what the jobs wait for."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--endpoints", action="store_true")
    parser.add_argument("--groups", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    add_beside(parser)
    arguments = parser.parse_args()
    if arguments.endpoints:
        compare_endpoints(arguments.repeat)
        return
    if arguments.groups:
        compare_groups(arguments.repeat)
        return
    chosen = checkouts(arguments)
    sizes = FULL_SIZES if arguments.full else SIZES
    samples: dict[tuple[int, str], list[tuple[float, float]]] = {}
    floor_us = []
    floor, mode = floor_program(), MODES["whole"]
    with tempfile.TemporaryDirectory() as folder, server(mode.chunks, mode.over_s) as running:
        for _ in range(arguments.repeat):
            for size in sizes:
                for checkout in chosen:
                    rate, cost_us = map(float, admit(size, checkout).output.split())
                    samples.setdefault((size, checkout.name), []).append((rate, cost_us))
                floor_us.append(1000 * sample(floor, mode, running, Path(folder)).cpu_s)
    rows = []
    for (size, name), taken in samples.items():
        rate, cost_us = (median(values) for values in zip(*taken, strict=True))
        ratio = f"{cost_us / median(floor_us):.2f} x"
        rows.append([f"{size:,}", name, f"{rate:,.0f}", f"{cost_us:.0f} us", ratio, f"{TARGET:.2f} x"])
    show(
        f"Without HTTP; a request of the floor takes {median(floor_us):.0f} us",
        ["jobs", "", "jobs a second", "CPU a job", "to the floor", "target"],
        rows,
    )


def compare_endpoints(repeat: int) -> None:
    """What a job costs with several endpoints, against one. In turns, so that other work on the machine meets all."""
    costs: dict[int, list[float]] = {number: [] for number in ENDPOINTS}
    for _ in range(repeat):
        for number, taken in costs.items():
            taken.append(float(admit(JOBS_FOR_ENDPOINTS, endpoints=number).output.split()[1]))
    of_one = median(costs[1])
    rows = [
        [f"{number}", f"{median(taken):.0f} us", f"{median(taken) / of_one:.2f} x"] for number, taken in costs.items()
    ]
    show(f"Without HTTP, {JOBS_FOR_ENDPOINTS:,} jobs", ["endpoints", "CPU a job", "to one endpoint"], rows)


def compare_groups(repeat: int) -> None:
    """What admission alone costs a job, by limit groups and endpoints. In turns, so that other work meets all."""
    for way, (dispatched, has_budget, bounds) in WAYS.items():
        for bound in bounds:
            cases = [(groups, 1) for groups in GROUPS]
            if dispatched:
                cases += [(1, 10), (1, 100), (50, 10), (50, 100)]
            cpu_us: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
            byte_codes: dict[tuple[int, int], float] = {}
            for round_number in range(repeat + 1):
                for groups, endpoints in cases:
                    cost = admission_cost(
                        max(JOBS_FOR_GROUPS, 2 * groups),
                        groups=groups,
                        endpoints=endpoints,
                        bound=bound,
                        dispatched=dispatched,
                        has_budget=has_budget,
                        trace=round_number == 0,
                    )
                    if round_number == 0:
                        byte_codes[groups, endpoints] = cost.byte_codes
                    else:
                        cpu_us[groups, endpoints].append(cost.cpu_us)
            of_one, codes_of_one = median(cpu_us[1, 1]), byte_codes[1, 1]
            show(
                f"{way}, jobs wait for {bound}",
                ["limit groups", "endpoints", "byte codes a job", "to 1 and 1", "CPU a job", "to 1 and 1"],
                [
                    [
                        f"{groups:,}",
                        f"{endpoints}",
                        f"{byte_codes[groups, endpoints]:,.0f}",
                        f"{byte_codes[groups, endpoints] / codes_of_one:.2f} x",
                        f"{median(taken):.0f} us",
                        f"{median(taken) / of_one:.2f} x",
                    ]
                    for (groups, endpoints), taken in cpu_us.items()
                ],
            )


if __name__ == "__main__":
    main()
