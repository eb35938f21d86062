"""A process on the local disk that is killed with SIGKILL at random moments."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.results_samples import rows

ROOT = Path(__file__).parents[3]
JOBS = 400
CONCURRENCY = 8

RUN = """
import asyncio, sys
from pathlib import Path
from tests.support.results_samples import Provider, MiniRun
from processor.output.results_file import ResultsFile

class ReportingRun(MiniRun):
    async def _work(self, journal, name, request, line: bytes):
        print("sent", name, flush=True)
        await super()._work(journal, name, request, line)
        print("written", name, flush=True)

journal = ResultsFile.open(Path(sys.argv[1]))
print("billed", journal.recovered.possibly_billed, flush=True)
jobs = [(f"job-{n}", f"request {n}") for n in range(int(sys.argv[2]))]
asyncio.run(ReportingRun(jobs, Provider(fails={"job-7"}), concurrency=int(sys.argv[3]))(journal))
"""


def start(out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(out), str(JOBS), str(CONCURRENCY)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def run_with_kills(out: Path, kills: int, chance: random.Random) -> None:
    sent: Counter[str] = Counter()
    written: set[str] = set()
    in_flight = 0
    for kill in range(kills + 1):
        process = start(out)
        if kill < kills:
            time.sleep(0.2 + chance.random() * 0.3)
            process.send_signal(signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
        whole, _, _ = output.rpartition("\n")  # the last line may have been cut with the process
        reports = [words for line in whole.splitlines() if len(words := line.split()) == 2]
        now_sent = [name for what, name in reports if what == "sent"]
        now_written = {name for what, name in reports if what == "written"}
        assert all(int(number) <= CONCURRENCY for what, number in reports if what == "billed")
        assert not (written - {"job-7"}) & set(now_sent), "a job with a written row is not sent again"
        sent.update(now_sent)
        written |= now_written
        in_flight += len(set(now_sent) - now_written)
    assert process.returncode == 0
    replies, failures = rows(out), rows(out.with_name("results.errors.jsonl"))
    assert Counter(row["custom_id"] for row in replies + failures) == Counter(f"job-{n}" for n in range(JOBS))
    assert [row["custom_id"] for row in failures] == ["job-7"]
    for row in replies:
        assert row["response"]["body"]["text"] == f"reply to {row['custom_id'].replace('job-', 'request ')}"
    assert sum(sent.values()) - sent["job-7"] <= JOBS - 1 + in_flight


@pytest.mark.process
def test_killed_process_loses_no_job_and_sends_none_twice(tmp_path: Path) -> None:
    run_with_kills(tmp_path / "results.jsonl", 5, random.Random(1))


@pytest.mark.slow
@pytest.mark.process
def test_fifty_kills_lose_no_job_and_send_none_twice(tmp_path: Path) -> None:
    for seed in range(5):
        (tmp_path / str(seed)).mkdir()
        run_with_kills(tmp_path / str(seed) / "results.jsonl", 10, random.Random(seed))
