"""Real programs that use a session with a journal, killed at random times, and started again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from processor.simulator.settings import SimulatorSettings
from tests.support.cli_world import KEY, ROOT, Server, Shell

pytestmark = [pytest.mark.slow, pytest.mark.process]

JOBS, CONCURRENCY, KILLS = 60, 4, 4

PROGRAM = f"""
import json
import sys

import processor

jobs = [{{"id": f"job-{{number}}", "prompt": f"Question {{number}}?"}} for number in range({JOBS})]
settings = processor.Settings(model="gpt-4o", base_url=sys.argv[1], concurrency={CONCURRENCY})
for row in processor.results(jobs, settings, journal="rows.jsonl"):
    print(json.dumps(row), flush=True)
"""


def test_killed_programs_lose_no_row_that_they_had_and_pay_only_for_what_was_in_flight(tmp_path: Path) -> None:
    random = Random(5)
    server = Server(SimulatorSettings(first_token_s=0.05, speed_tps=400.0, reply_tokens=(3, 30)))
    shell = Shell(tmp_path)
    returned: dict[str, dict[str, object]] = {}
    kills = 0
    try:
        while len(returned) < JOBS:
            with subprocess.Popen(
                [sys.executable, "-c", PROGRAM, server.base_url],
                cwd=tmp_path,
                env={**shell.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": KEY},
                stdout=subprocess.PIPE,
            ) as program:
                assert program.stdout is not None
                if kills < KILLS:
                    program.stdout.readline()  # it has begun to answer
                    time.sleep(random.uniform(0.0, 0.15))
                    program.kill()
                    kills += 1
                lines = program.stdout.read().splitlines(keepends=True)
            for line in lines:
                if line.endswith(b"\n"):
                    row = json.loads(line)
                    assert returned.setdefault(row["custom_id"], row) == row
    finally:
        server.close()
    written = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert Counter(row["custom_id"] for row in written) == Counter(f"job-{number}" for number in range(JOBS))
    assert {row["custom_id"]: row for row in written} == returned
    assert JOBS <= len(server.requests) <= JOBS + kills * CONCURRENCY
