"""Sends all jobs of a file, and prints the CPU time of this process and of its workers between the first and the last
request: ``cluster.py JOBS OUT BASE_URL STREAMS WORKERS``. WORKERS 0: without workers."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import processor
from processor.core.events import RunEvent, RunFinished, RunStarted

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def workers_cpu_s() -> float:
    found = subprocess.run(["pgrep", "-f", "^ray::RayActor"], check=False, capture_output=True, text=True)
    total = 0
    for pid in found.stdout.split():
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


class CpuTimes:
    """A listener that reads the CPU times when the run starts and ends."""

    def __init__(self) -> None:
        self.spent: list[tuple[float, float, float]] = []

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, RunStarted | RunFinished):
            self.spent.append((time.process_time(), workers_cpu_s(), time.monotonic()))


def main() -> None:
    jobs, out, base_url, streams, workers = sys.argv[1:]
    on_ray = processor.RaySettings(address="local", workers=int(workers)) if int(workers) else processor.RaySettings()
    settings = processor.Settings(base_url=base_url, concurrency=int(streams), ray=on_ray)
    times = CpuTimes()
    plan = processor.Plan(jobs=jobs, out=out, settings=settings, quiet=True, progress="none")
    exit_code = processor.run(plan, listeners=[times])
    driver_s, workers_s, took_s = (after - before for before, after in zip(*times.spent, strict=True))
    print(json.dumps({"exit_code": exit_code, "driver_s": driver_s, "workers_s": workers_s, "took_s": took_s}))


main()
