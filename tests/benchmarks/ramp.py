"""How soon a run has the right number of requests in flight: ``python -m tests.benchmarks.ramp [--full]``.

The server announces no limit, answers so many requests at a time, and lets the others wait. The floor and, where it is
installed, the openai SDK under a semaphore are given that number; this program is given the same number, four times as
many, or none (``auto``). The table shows wall times. ``--full``: 10,000 jobs and replies of 10 s, too. ``--longest``:
leaves out what takes the floor longer. The canary's time is that of the first reply's first event.

``--virtual``: the same servers on the virtual clock, with the limiter and its control of the number in flight, but
without HTTP; and for how many reply times the replies of a reply time took more than 1.3 times as long as alone, in the
mean (*crowded*).
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import tempfile
from pathlib import Path

from tests.benchmarks.measure import PROGRAMS, THIS, run, server, show, write_jobs
from tests.support.ramp_campaign import ramp_run

CHUNKS = 10
FLOOR_TOLERANCE = 1.03
AUTO_TOLERANCE = 1.1
SLACK_S = 0.5
INITIAL = 4


def wall_s(command: list[str]) -> float:
    return run(command, checkout=THIS).wall_s


def measure(jobs: int, reply_s: float, capacity: int) -> list[str]:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as name, server(CHUNKS, reply_s, capacity) as running:
        folder = Path(name)
        source = write_jobs(folder / "jobs.jsonl", jobs)
        best = min(jobs, capacity)

        def program(name: str) -> float:
            out = folder / f"{name}.jsonl"
            return wall_s(
                [THIS.python, str(PROGRAMS / f"{name}.py"), str(source), str(out), running.base_url, str(best)]
            )

        floor_s = program("floor")
        sdk = f"{program('sdk'):.1f} s" if importlib.util.find_spec("openai") else "-"

        def ours(concurrency: str) -> float:
            out = folder / f"{concurrency}.jsonl"
            flags = ["--base-url", running.base_url, "--concurrency", concurrency, "--no-progress", "--quiet"]
            return wall_s(THIS.process(str(source), "--out", str(out), *flags))

        given_s, too_many_s, auto_s = ours(str(best)), ours(str(4 * best)), ours("auto")
    canary_s = reply_s / (CHUNKS + 2)
    given_target_s = FLOOR_TOLERANCE * floor_s + SLACK_S + canary_s
    auto_target_s = AUTO_TOLERANCE * floor_s + max(0.0, math.log2(best / INITIAL)) * reply_s + SLACK_S + canary_s
    return [
        f"{jobs:,}",
        f"{reply_s:g} s",
        f"{capacity:,}",
        f"{floor_s:.1f} s",
        sdk,
        f"{given_s:.1f} s ({given_target_s:.1f})",
        f"{too_many_s:.1f} s",
        f"{auto_s:.1f} s ({auto_target_s:.1f})",
    ]


def virtual(jobs: int, reply_s: float, capacity: int) -> list[str]:
    """One line of the table on the virtual clock."""
    best = min(jobs, capacity)
    runs = [ramp_run(jobs, reply_s, capacity, given=given) for given in (best, 4 * best, None)]
    times = [f"{run.wall_s:.1f} s ({bound_s:.1f})" for run, bound_s in runs]
    return [f"{jobs:,}", f"{reply_s:g} s", f"{capacity:,}", *times, f"{runs[-1][0].crowded_s / reply_s:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--virtual", action="store_true", help="on the virtual clock")
    parser.add_argument("--full", action="store_true", help="10,000 jobs and replies of 10 s, too")
    parser.add_argument("--longest", type=float, default=60.0, metavar="SECONDS", help="of a run over HTTP (60)")
    arguments = parser.parse_args()
    line = virtual if arguments.virtual else measure
    rows = [
        line(jobs, reply_s, capacity)
        for jobs in ((200, 2000, 10_000) if arguments.full else (200, 2000))
        for reply_s in ((0.2, 1.0, 10.0) if arguments.full else (0.2, 1.0))
        for capacity in (4, 64, 200, 2000)
        if arguments.virtual or jobs * reply_s / min(jobs, capacity) <= arguments.longest
    ]
    ours = ["given (target)", "four times", "auto (target)"]
    programs = [*ours, "crowded"] if arguments.virtual else ["floor", "openai SDK", *ours]
    show("Time of a run", ["jobs", "reply", "answered at a time", *programs], rows)


if __name__ == "__main__":
    main()
