"""What it holds: ``python -m tests.benchmarks.memory [--full]``. Peaks of resident memory, of whole processes.

Jobs: the same run without HTTP over few jobs and many (--full: 1,000,000). Streams: the command line on one stream,
on 200, and on many (--full: 10,000), all of them in flight at once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.measure import admit, run, server, show, write_jobs

FEW_JOBS = 2_000
CHUNKS = 20


def peak_bytes(streams: int, over_s: float) -> int:
    with tempfile.TemporaryDirectory() as name, server(CHUNKS, over_s) as started:
        folder = Path(name)
        jobs, out = write_jobs(folder / "jobs.jsonl", streams), folder / "out.jsonl"
        flags = ["--concurrency", str(streams), "--base-url", started.base_url, "--no-progress", "--quiet"]
        peak = run([sys.executable, "-m", "processor", str(jobs), "--out", str(out), *flags]).peak_bytes
        assert len(out.read_bytes().splitlines()) == streams
    return peak


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    full = parser.parse_args().full
    many_jobs, many_streams, over_s = (1_000_000, 10_000, 40.0) if full else (100_000, 2_000, 10.0)
    few, many = admit(FEW_JOBS).peak_bytes, admit(many_jobs).peak_bytes
    one, some, most = peak_bytes(1, 1.0), peak_bytes(200, 3.0), peak_bytes(many_streams, over_s)
    further = (most - some) / (many_streams - 200)
    rows = [
        [f"{many_jobs:,} jobs over {FEW_JOBS:,}", mib(few), mib(many), mib(many - few), "30 MiB at 1,000,000"],
        ["200 streams over one", mib(one), mib(some), mib(some - one), "60 MiB"],
        [f"{many_streams:,} streams over 200", mib(some), mib(most), f"{further / 1024:.1f} KiB a stream", "25 KiB"],
    ]
    show("Peak of resident memory", ["", "from", "to", "more by", "target"], rows)


def mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"


if __name__ == "__main__":
    main()
