"""What it costs to look ahead: ``python -m tests.benchmarks.forecasts [--jobs 1000000] [--rehearsed 100000]``.

    estimate    CPU of both processes, and memory a job: that of all jobs above that of a fifth of them
    rehearse    CPU; replies of 150 to 350 tokens, with and without limits, and with the faults of a rough night

Wall time is at least half of the CPU of `estimate`, and all of that of `rehearse`. Five minutes on an idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from random import Random

import orjson

from tests.benchmarks.measure import THIS, Cost, run, show, write_jobs

ADDRESS = ("--base-url", "http://127.0.0.1:9/v1")
"""Nothing is sent, and no published price is looked up."""
REHEARSED = {
    "5,000 requests a minute": ("--rpm", "5000"),
    "200 at once": ("--concurrency", "200"),
    "5,000 a minute, rough night": ("--rpm", "5000", "--faults", "rough-night"),
}
SAMPLE_ROWS = 1000
TOKENS_A_SECOND = 100


def forecast(command: str, *words: str) -> Cost:
    return run(THIS.process(command, *words, *ADDRESS), core=None)


def write_sample(path: Path) -> Path:
    """Write rows with replies of 250 tokens on average."""
    rng = Random(0)
    with path.open("wb") as file:
        for n in range(SAMPLE_ROWS):
            tokens = rng.randint(150, 350)
            usage = {"prompt_tokens": 200, "completion_tokens": tokens, "total_tokens": 200 + tokens}
            timing = {"first_token_s": 0.4, "total_s": 0.4 + tokens / TOKENS_A_SECOND}
            choices = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Yes."}}]
            response = {"status_code": 200, "body": {"model": "gpt-4o-mini", "choices": choices, "usage": usage}}
            row = {"id": f"{n:032x}", "custom_id": f"job-{n}", "response": response, "error": None}
            file.write(orjson.dumps(row | {"usage": usage, "timing": timing, "asked_model": "gpt-4o-mini"}) + b"\n")
    return path


def measure_estimate(folder: Path, jobs: int) -> None:
    few, many = (
        forecast("estimate", str(write_jobs(folder / f"{count}.jsonl", count)), "--rpm", "500")
        for count in (jobs // 5, jobs)
    )
    bytes_a_job = (many.peak_bytes - few.peak_bytes) / (jobs - jobs // 5)
    row = [f"{jobs:,}", f"{many.cpu_s:.0f} s", f"{many.wall_s:.0f} s", f"{bytes_a_job:.1f} bytes"]
    show("estimate", ["jobs", "CPU", "wall", "memory a job"], [row])


def measure_rehearse(folder: Path, jobs: int) -> None:
    path, sample = write_jobs(folder / "rehearsed.jsonl", jobs), write_sample(folder / "sample.jsonl")
    rows = []
    for name, flags in REHEARSED.items():
        used = forecast("rehearse", str(path), "--like", str(sample), *flags)
        rows.append([name, f"{jobs:,}", f"{used.cpu_s:.0f} s", f"{used.wall_s:.0f} s"])
    show("rehearse", ["setting", "jobs", "CPU", "wall"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--rehearsed", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.jobs:
            measure_estimate(Path(name), options.jobs)
        if options.rehearsed:
            measure_rehearse(Path(name), options.rehearsed)


if __name__ == "__main__":
    main()
