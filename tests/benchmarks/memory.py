"""Memory: ``python -m tests.benchmarks.memory [--full] [--beside FOLDER]``.

The figures are peaks of resident memory of whole processes. Jobs: the same run without HTTP with few jobs and with many
(--full: 1,000,000). Streams: the command line with one stream, with 200, and with many (--full: 10,000), all of them in
flight at once.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.benchmarks.measure import Checkout, add_beside, admit, checkouts, run, server, show, write_jobs

FEW_JOBS = 2_000
CHUNKS = 20


def peak_bytes(streams: int, over_s: float, checkout: Checkout) -> int:
    with tempfile.TemporaryDirectory() as name, server(CHUNKS, over_s) as running:
        folder = Path(name)
        jobs, out = write_jobs(folder / "jobs.jsonl", streams), folder / "out.jsonl"
        flags = ("--concurrency", str(streams), "--base-url", running.base_url, "--no-progress", "--quiet")
        peak = run(checkout.process(str(jobs), "--out", str(out), *flags), checkout=checkout).peak_bytes
        assert len(out.read_bytes().splitlines()) == streams
    return peak


def rows(checkout: Checkout, *, full: bool) -> list[list[str]]:
    many_jobs, many_streams, over_s = (1_000_000, 10_000, 40.0) if full else (100_000, 2_000, 10.0)
    few, many = admit(FEW_JOBS, checkout).peak_bytes, admit(many_jobs, checkout).peak_bytes
    one, some = peak_bytes(1, 1.0, checkout), peak_bytes(200, 3.0, checkout)
    most = peak_bytes(many_streams, over_s, checkout)
    per_stream = f"{(most - some) / (many_streams - 200) / 1024:.1f} KiB a stream"
    name = checkout.name
    return [
        [name, f"{many_jobs:,} jobs over {FEW_JOBS:,}", mib(few), mib(many), mib(many - few), "30 MiB at 1,000,000"],
        [name, "200 streams over one", mib(one), mib(some), mib(some - one), "60 MiB"],
        [name, f"{many_streams:,} streams over 200", mib(some), mib(most), per_stream, "25 KiB"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    add_beside(parser)
    arguments = parser.parse_args()
    measured = [row for checkout in checkouts(arguments) for row in rows(checkout, full=arguments.full)]
    measured.sort(key=lambda row: row[1])
    show("Peak of resident memory", ["", "", "from", "to", "more by", "target"], measured)


def mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"


if __name__ == "__main__":
    main()
