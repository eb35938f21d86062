"""Batches: ``python -m tests.benchmarks.batches [--jobs N] [--beside FOLDER]``.

CPU seconds and peak memory of ``process --batch`` with 120,000 small jobs, which are three batches, beside 2,000 jobs.
The simulated provider runs in a process of its own; each batch is answered at once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from tests.benchmarks.measure import Checkout, Cost, add_beside, checkouts, run, show

FEW_JOBS = 2_000
SETTINGS = "[batch]\npoll_min_s = 1\npoll_max_s = 2\n"


@contextmanager
def provider() -> Iterator[str]:
    """The address of a simulated provider."""
    command = [sys.executable, "-m", "processor", "simulate", "--port", "0", "--batch-seconds", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().split()[2].removesuffix(":")
        finally:
            server.terminate()


def cost_of(count: int, checkout: Checkout) -> Cost:
    with tempfile.TemporaryDirectory() as name, provider() as base_url:
        folder = Path(name)
        with (folder / "jobs.jsonl").open("wb") as file:
            for n in range(count):
                job = {"id": f"job-{n}", "model": "gpt-4o-mini", "prompt": f"Say {n}.", "max_tokens": 5}
                file.write(orjson.dumps(job) + b"\n")
        (folder / "config.toml").write_text(SETTINGS)
        files = (str(folder / "jobs.jsonl"), "--out", str(folder / "r.jsonl"), "--config", str(folder / "config.toml"))
        flags = ("--batch", "--base-url", base_url, "--no-progress", "--quiet")
        cost = run(checkout.process(*files, *flags), checkout=checkout)
        with (folder / "r.jsonl").open("rb") as rows:
            names = {orjson.loads(row)["custom_id"] for row in rows}
        assert len(names) == count, f"{len(names)} of {count} jobs have a row"
    return cost


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=120_000)
    add_beside(parser)
    arguments = parser.parse_args()
    rows = []
    for checkout in checkouts(arguments):
        few, many = cost_of(FEW_JOBS, checkout), cost_of(arguments.jobs, checkout)
        more = arguments.jobs - FEW_JOBS
        cpu_us, memory = (many.cpu_s - few.cpu_s) / more * 1e6, (many.peak_bytes - few.peak_bytes) / more
        cpu = f"{few.cpu_s:.1f} s", f"{many.cpu_s:.1f} s", f"{cpu_us:.0f} µs a job"
        peak = f"{few.peak_bytes / 2**20:.0f} MiB", f"{many.peak_bytes / 2**20:.0f} MiB", f"{memory:.0f} bytes a job"
        rows += [[checkout.name, "CPU", *cpu], [checkout.name, "peak memory", *peak]]
    show("Batches", ["", "", f"{FEW_JOBS:,} jobs", f"{arguments.jobs:,} jobs", "more"], rows)


if __name__ == "__main__":
    main()
