"""What a run says and does where its job file, model or endpoint is not that of the earlier runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from processor.app import factory
from processor.core import platform
from processor.input import job_file
from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import ProgramResult, Server, Shell, chat_job, chat_jobs

Run = Callable[..., ProgramResult]
StartServer = Callable[[SimulatorSettings], Server]


def unnamed_model(*names: str) -> list[dict[str, Any]]:
    return [{"id": name, "prompt": f"Say {name}."} for name in names]


def edit_rows(shell: Shell, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    rows = shell.rows(name)
    for row in rows:
        edit(row)
    shell.write(name, *rows)


@pytest.fixture(params=["read in one", "read in parts"])
def _both_readers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the job file as a small one and as a large one."""
    if request.param == "read in parts":
        monkeypatch.setattr(job_file, "MIN_SKIP_BYTES", 0)
        monkeypatch.setattr(platform, "available_cpus", lambda: 1)


@pytest.mark.usefixtures("_both_readers")
def test_jobs_answered_by_another_model_are_counted_named_and_sent_again(
    shell: Shell, run_inside: Run, server: Server
) -> None:
    shell.write("jobs.jsonl", *unnamed_model("a", "b", "c", "d"), chat_job("named"))
    files = ("jobs.jsonl", "--out", "r.jsonl")
    assert run_inside(*files, "--model", "model-a").code == 0
    kept = run_inside(*files, "--model", "model-b", "--summary-json", "s.json")
    assert (kept.code, len(server.requests)) == (0, 5)
    assert kept.row("jobs") == "jobs.jsonl: 5 jobs, 5 already done, nothing to do"
    assert kept.row("changed").startswith("4 jobs answered by another model, reply kept: a, b, c, … ")
    summary = json.loads((shell.folder / "s.json").read_text())
    assert summary["skipped"] == {"other_model": 4, "done": 1}
    assert summary["skipped_examples"] == {"other_model": ["a", "b", "c"]}
    resent = run_inside(*files, "--model", "model-b", "--changed", "resend")
    assert resent.row("jobs") == "jobs.jsonl: 5 jobs, 1 already done, 4 to do"
    assert (resent.code, len(server.requests)) == (0, 9)
    assert {row["custom_id"]: row["asked_model"] for row in shell.rows("r.jsonl")} == {
        **dict.fromkeys("abcd", "model-b"),
        "named": "gpt-4o-mini",
    }
    assert "changed" not in run_inside(*files, "--model", "model-b").err


@pytest.mark.usefixtures("_both_readers")
def test_jobs_answered_at_another_address_are_counted_and_sent_again(
    shell: Shell, run_inside: Run, start_server: StartServer
) -> None:
    shell.write("jobs.jsonl", *chat_jobs(2))
    first = start_server(INSTANT)
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    second = start_server(INSTANT)
    kept = run_inside("jobs.jsonl", "--out", "r.jsonl")
    assert kept.row("changed").startswith("2 jobs answered at another address, reply kept: job-0, job-1")
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--changed", "resend").code == 0
    assert (len(first.requests), len(second.requests)) == (2, 2)
    assert {row["endpoint"] for row in shell.rows("r.jsonl")} == {f"{second.base_url}/chat/completions"}


def test_rows_that_name_no_address_count_as_unchanged(shell: Shell, run_inside: Run, start_server: StartServer) -> None:
    shell.write("jobs.jsonl", *unnamed_model("a"))
    start_server(INSTANT)
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--model", "model-a").code == 0
    edit_rows(shell, "r.jsonl", lambda row: (row.pop("endpoint"), row.pop("asked_model")))
    server = start_server(INSTANT)
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--model", "model-b", "--changed", "resend")
    assert (result.code, server.requests) == (0, [])
    assert "changed" not in result.err


def test_a_simulator_has_no_address_that_could_change(shell: Shell, run_inside: Run) -> None:
    shell.write("jobs.jsonl", *chat_jobs(2))
    for _ in range(2):
        result = run_inside("jobs.jsonl", "--simulate", "--changed", "resend", "--out", "r.jsonl")
    assert result.row("jobs").endswith("2 already done, nothing to do")


def test_a_permanent_failure_does_not_stand_for_another_model(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *unnamed_model("a"), chat_job("b"))
    files = ("jobs.jsonl", "--out", "r.jsonl")
    assert run_inside(*files, "--model", "model-a").code == 0
    rows = {row["custom_id"]: row for row in shell.rows("r.jsonl")}
    shell.write("r.jsonl", rows["b"])
    rejected = {"response": None, "error": {"code": "rejected", "message": "no"}, "own_fault": True}
    shell.write("r.errors.jsonl", rows["a"] | rejected)
    same = run_inside(*files, "--model", "model-a")
    assert same.row("jobs").endswith("1 already done, 1 failed permanently, nothing to do")
    assert (same.code, len(server.requests)) == (1, 2)
    assert run_inside(*files, "--model", "model-b").code == 0
    assert len(server.requests) == 3


def test_the_opening_says_what_will_be_sent(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", {"model": "m", "prompt": "one"}, {"model": "m", "prompt": "two"})
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    shell.write("jobs.jsonl", {"model": "m", "prompt": "uno"}, {"model": "m", "prompt": "two"}, "no job")
    result = run_inside("jobs.jsonl", "--out", "r.jsonl")
    assert result.row("jobs") == "jobs.jsonl: 3 jobs, 1 already done, 1 invalid, 1 to do"
    assert result.row("not in file") == "1 row of a job that is not in the job file; kept"
    assert len(server.requests) == 3
    assert len(shell.rows("r.jsonl")) == 3


def test_the_opening_of_a_large_file_says_that_it_does_not_know(
    shell: Shell, run_inside: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.write("jobs.jsonl", *chat_jobs(3))
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--limit", "1").code == 0
    monkeypatch.setattr(factory, "MAX_FORECAST_BYTES", 1)
    result = run_inside("jobs.jsonl", "--out", "r.jsonl")
    assert result.row("jobs") == "jobs.jsonl: 3 jobs, 1 reply of earlier runs; to do: not known yet"
    assert len(server.requests) == 3


def test_equal_jobs_without_id_keep_their_names_after_the_forecast(
    shell: Shell, run_inside: Run, server: Server
) -> None:
    job = {"model": "m", "prompt": "Say it."}
    shell.write("jobs.jsonl", job, job, job)
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--limit", "2").code == 0
    result = run_inside("jobs.jsonl", "--out", "r.jsonl")
    assert result.row("jobs") == "jobs.jsonl: 3 jobs, 2 already done, 1 to do"
    names = sorted(row["custom_id"] for row in shell.rows("r.jsonl"))
    assert names == [names[0], f"{names[0]}-2", f"{names[0]}-3"]


def test_rows_of_another_job_file_are_pointed_out_before_anything_is_sent(
    shell: Shell, run_inside: Run, server: Server
) -> None:
    shell.write("a.jsonl", *chat_jobs(2))
    shell.write("b.jsonl", chat_job("other"))
    assert run_inside("a.jsonl", "--out", "r.jsonl").code == 0
    result = run_inside("b.jsonl", "--out", "r.jsonl")
    assert (
        result.row("warning")
        == "none of the 2 rows in r.jsonl is of a job in b.jsonl: is it the output of another job file?"
    )
    assert result.row("not in file") == "2 rows of jobs that are not in the job file; kept"
    assert Path(shell.folder, "r.jsonl").exists()


def test_results_whose_name_promises_a_table_are_pointed_out(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *chat_jobs(1))
    said = "the results are JSON lines, whatever their name: process export makes a table of them"
    assert run_inside("jobs.jsonl", "--out", "r.csv").row("warning") == said
    assert "whatever their name" not in run_inside("jobs.jsonl", "--out", "r.txt").err
