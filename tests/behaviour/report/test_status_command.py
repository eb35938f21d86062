"""``process status``: reads files only, and says how old they are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from tests.support.cli_world import ProgramResult
from tests.support.report_rows import failed_row, reply_row, write_rows


def test_status_tells_counts_age_limits_and_what_binds(
    tmp_path: Path, run_inside: Callable[..., ProgramResult]
) -> None:
    assert run_inside("status", "r.jsonl").code == 2
    write_rows(tmp_path / "r.jsonl", [reply_row(1), reply_row(2)])
    write_rows(tmp_path / "r.errors.jsonl", [failed_row(3)])
    lines = [
        {"run": "a", "started_at": "2026-01-01T00:00:00+00:00", "command": "process jobs.jsonl", "settings": {}},
        {
            "run": "a",
            "time": "2026-01-01T00:01:00+00:00",
            "seconds": 60.0,
            "requests": 40,
            "in_flight": 7,
            "limits": {"g": {"rpm": 500, "tpm": None}},
            "bound_by_s": {"requests": 54.0, "nothing": 6.0},
        },
    ]
    (tmp_path / "r.history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run_inside("status", "r.jsonl")
    assert (result.code, result.err) == (0, "")
    for part in (
        "at work, last written ",
        "40 requests in the last 1m 00s",
        "500 requests a minute",
        "request limit 90%, nothing 10%",
        "process jobs.jsonl",
    ):
        assert part in result.out
    for path in tmp_path.glob("r.*"):
        os.utime(path, (1e9, 1e9))
    assert "no run has written lately" in run_inside("status", "r.jsonl").out
    found = json.loads(run_inside("status", "r.jsonl", "--json").out)
    assert (found["replies"], found["failed"], found["may_be_at_work"]) == (2, 1, False)
    assert found["last_minute"]["in_flight"] == 7
