"""``process show``: the row of one job that counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from processor.output.paths import OutputPaths
from processor.output.row_lookup import find_row
from processor.terminal.job_details import job_details
from tests.support.cli_world import ProgramResult
from tests.support.report_rows import failed_row, reply_row, write_rows


def paths(folder: Path) -> OutputPaths:
    write_rows(folder / "r.errors.jsonl", [failed_row(1), failed_row(3, custom_id='odd "é/\\ id')])
    rows = [reply_row(1), reply_row(2), reply_row(1, attempts=3), reply_row(12, custom_id="line:2")]
    return OutputPaths.of(write_rows(folder / "r.jsonl", rows, end=b'{"id": "torn'))


def test_row_that_counts_is_found(tmp_path: Path) -> None:
    output = paths(tmp_path)
    found = find_row(output, custom_id="job-1")
    assert found is not None
    assert (found.row["attempts"], found.path.name) == (3, "r.jsonl")
    found = find_row(output, custom_id='odd "é/\\ id')
    assert found is not None
    assert found.row["line"] == 3
    assert find_row(output, custom_id="job") is None
    found = find_row(output, line=2)
    assert found is not None
    assert found.row["custom_id"] == "job-2"


def test_command_prints_a_job_with_its_reply(tmp_path: Path, run_inside: Callable[..., ProgramResult]) -> None:
    paths(tmp_path)
    result = run_inside("show", "r.jsonl", "job-2")
    assert (result.code, result.err) == (0, "")
    for part in ("job-2, line 2", "m at https://llm.example/v1", "1 request", "10 prompt, 2 reply", "\n\nreply 2\n"):
        assert part in result.out
    assert json.loads(run_inside("show", "r.jsonl", "line:1", "--json").out)["custom_id"] == "job-1"
    assert "rejected: no" in run_inside("show", "r.jsonl", "line:3").out
    assert "line:2, line 12" in run_inside("show", "r.jsonl", "line:2").out  # an id before a line
    missing = run_inside("show", "r.jsonl", "job-9")
    assert missing.code == 1
    assert missing.error.startswith("no row of job-9 in r.jsonl or r.errors.jsonl")
    assert run_inside("show", "none.jsonl", "job-1").code == 2


@pytest.mark.parametrize(
    ("changes", "cost"),
    [
        ({"cost_usd": 0.5}, "0.5 USD"),
        ({"cost_usd": None}, "unknown"),
        ({"cost_usd": None, "simulated": True}, "none: simulated"),
        ({"cost_usd": None, "attempts": 0}, "none: nothing was sent"),
    ],
)
def test_cost_of_a_job_is_told_as_far_as_it_is_known(tmp_path: Path, changes: dict[str, Any], cost: str) -> None:
    rows = job_details(reply_row(1, **changes), tmp_path).rows
    assert {row.label: row.text for row in rows}["cost"] == cost
