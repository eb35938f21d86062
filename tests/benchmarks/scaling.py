"""CPU time of a request in the driver and in the workers of ``--ray local``, beside a run without workers.

``python -m tests.benchmarks.scaling [MODE ...] [--repeat N] [--workers N]``, MODE: whole, long (default: both). Needs
the extra ``ray``. Each round has one run of each kind; CPU times are read by process, between the first and the last
request, so that starting Ray is not in them. The table shows medians, and medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import PROGRAMS, REPOSITORY, THIS, server, show, write_jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Replies of `chunks` chunks over `over_s` seconds (0: in one write), `streams` at a time."""

    title: str
    chunks: int
    over_s: float
    streams: int
    jobs: int
    target: float
    """The greatest share of the driver in the CPU time of a run without workers."""


LOADS = {
    "whole": Load(title="100 chunks in one write", chunks=100, over_s=0, streams=128, jobs=4000, target=0.65),
    "long": Load(title="500 chunks over 10 s", chunks=500, over_s=10, streams=500, jobs=1000, target=0.4),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Milliseconds of CPU time for a request."""

    alone: float
    driver: float
    workers: float


def spent(load: Load, base_url: str, workers: int) -> tuple[float, float]:
    """CPU milliseconds for a request in the process of the run, and in its workers."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = write_jobs(Path(folder) / "jobs.jsonl", load.jobs)
        command = [sys.executable, str(PROGRAMS / "cluster.py"), str(jobs), str(Path(folder) / "out.jsonl"), base_url]
        done = subprocess.run(
            [*command, str(load.streams), str(workers)],
            cwd=REPOSITORY,
            env=THIS.environment,
            stdout=subprocess.PIPE,
            check=True,
        )
    measured = json.loads(done.stdout)
    if measured["exit_code"]:
        raise RuntimeError(f"the run ended with {measured['exit_code']}")
    return 1000 * measured["driver_s"] / load.jobs, 1000 * measured["workers_s"] / load.jobs


def one_round(load: Load, workers: int) -> Round:
    with server(load.chunks, load.over_s) as running:
        alone, _ = spent(load, running.base_url, 0)
        driver, in_workers = spent(load, running.base_url, workers)
    return Round(alone=alone, driver=driver, workers=in_workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loads", nargs="*", choices=[*LOADS, []], metavar="MODE")
    parser.add_argument("--repeat", type=int, default=5, metavar="N")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    arguments = parser.parse_args()
    rows = []
    for load in [LOADS[name] for name in arguments.loads or LOADS]:
        rounds = [one_round(load, arguments.workers) for _ in range(arguments.repeat)]
        shares = sorted(one.driver / one.alone for one in rounds)
        rows.append(
            [
                load.title,
                *(f"{median(getattr(one, name) for one in rounds):.2f}" for name in ("alone", "driver", "workers")),
                f"{median(shares):.2f} ({shares[0]:.2f} to {shares[-1]:.2f})",
                f"{load.target:.2f}",
            ]
        )
    show(
        "CPU milliseconds for a request",
        ["replies", "one process", "driver", "workers", "driver's share", "goal"],
        rows,
    )


main()
