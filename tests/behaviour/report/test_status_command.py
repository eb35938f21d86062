"""``process status``: reads files only, and says how old they are."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.cli_world import ProgramResult
from tests.support.report_rows import failed_row, reply_row, write_rows

NO_PROCESS = 2**30
"""No system gives a process such an id."""


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


def test_status_tells_whether_the_last_run_is_at_work_was_killed_or_has_ended(
    tmp_path: Path, run_inside: Callable[..., ProgramResult]
) -> None:
    write_rows(tmp_path / "r.jsonl", [reply_row(1)])
    begin = {"run": "a", "started_at": "2026-01-01T00:00:00+00:00", "host": socket.gethostname()}
    minute = {"run": "a", "time": "2026-01-01T00:01:00+00:00", "seconds": 60.0}

    def phase(*lines: Mapping[str, object]) -> tuple[str, bool, str]:
        (tmp_path / "r.history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = json.loads(run_inside("status", "r.jsonl", "--json").out)
        return found["phase"], found["may_be_at_work"], run_inside("status", "r.jsonl").out

    assert phase({**begin, "process": os.getpid()}, minute)[:2] == ("at_work", True)
    killed = phase({**begin, "process": NO_PROCESS}, minute)
    assert killed[:2] == ("killed", False)
    assert "killed: its process is gone, last written " in killed[2]
    elsewhere = {**begin, "process": NO_PROCESS, "host": "another"}
    assert phase(elsewhere, minute)[0] == "at_work", "another machine's processes cannot be seen"
    for code, said in ((0, "complete (exit code 0)"), (3, "stopped early, run the same command again to resume")):
        found = phase({**begin, "process": NO_PROCESS}, minute, {**minute, "exit_code": code})
        assert found[:2] == ("ended", False)
        assert said in found[2]


@pytest.mark.parametrize("command", [("status",), ("show", "a")])
def test_job_file_is_no_results_file(
    command: tuple[str, ...], tmp_path: Path, run_inside: Callable[..., ProgramResult]
) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"custom_id": "a", "prompt": "Hi"}\n')
    result = run_inside(command[0], "jobs.jsonl", *command[1:])
    assert (result.code, result.error) == (2, "jobs.jsonl is not a results file: it holds no row")
