"""``--shard K/N``: several runs, perhaps on several machines, each send a part of the jobs of one file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.cli_world import ProgramResult, Server, Shell, chat_job

pytestmark = pytest.mark.sampled

Run = Callable[..., ProgramResult]

SHARDS = 3


def write_mixed_jobs(shell: Shell) -> None:
    """Jobs with and without ids, equal ones, two with one id, and lines that are no jobs."""
    nameless = [{"model": "gpt-4o-mini", "prompt": f"Say {number % 8}.", "max_tokens": 5} for number in range(16)]
    jobs: list[Any] = [
        *(chat_job(f"job-{number}") for number in range(30)),
        *nameless,
        chat_job("job-1"),
        {"id": "no-job"},
        [1],
    ]
    shell.write("jobs.jsonl", *jobs)


def names_in(shell: Shell, name: str) -> list[str]:
    path = shell.folder / name
    return [row["custom_id"] or row["id"] for row in shell.rows(name)] if path.exists() else []


def test_shards_together_have_the_rows_of_a_run_of_all_jobs(run_inside: Run, server: Server, shell: Shell) -> None:
    write_mixed_jobs(shell)
    codes = [run_inside("jobs.jsonl", "--shard", f"{number}/{SHARDS}").code for number in range(1, SHARDS + 1)]
    outputs = [f"jobs.{number}-of-{SHARDS}.results" for number in range(1, SHARDS + 1)]
    assert all(len(names_in(shell, f"{name}.jsonl")) > 5 for name in outputs)
    requests = len(server.requests)
    assert run_inside("jobs.jsonl", "--out", "all.jsonl").code == max(codes) == 1
    assert requests * 2 == len(server.requests)
    for kind in ("", ".errors"):
        parts = Counter(name for output in outputs for name in names_in(shell, f"{output}{kind}.jsonl"))
        assert parts == Counter(names_in(shell, f"all{kind}.jsonl"))


def test_second_run_of_a_shard_sends_nothing(run_inside: Run, server: Server, shell: Shell) -> None:
    write_mixed_jobs(shell)
    first = run_inside("jobs.jsonl", "--shard", "2/3")
    requests, files = len(server.requests), shell.files()
    again = run_inside("jobs.jsonl", "--shard", "2/3", "--summary-json", "summary.json")
    assert (len(server.requests), again.code) == (requests, first.code)
    name = "jobs.2-of-3.results.jsonl"
    assert shell.files()[name] == files[name]
    summary = json.loads((shell.folder / "summary.json").read_text())
    rows = len(names_in(shell, name)) + len(names_in(shell, "jobs.2-of-3.results.errors.jsonl"))
    assert summary["jobs"] == rows


def test_limit_counts_before_the_jobs_are_divided(run_inside: Run, server: Server, shell: Shell) -> None:
    write_mixed_jobs(shell)
    for number in (1, 2, 3):
        assert run_inside("jobs.jsonl", "--shard", f"{number}/3", "--limit", "12").code == 0
    answered = [name for number in (1, 2, 3) for name in names_in(shell, f"jobs.{number}-of-3.results.jsonl")]
    assert Counter(answered) == Counter(f"job-{number}" for number in range(12))


@pytest.mark.parametrize("other", [["--shard", "2/3"], ["--shard", "1/4"], []])
@pytest.mark.parametrize("state", ["kept", "deleted"])
def test_another_shard_on_the_same_output_is_refused(
    run_inside: Run, server: Server, shell: Shell, other: list[str], state: str
) -> None:
    """Without the state file, which says which shard it is, the rows show it: but not that jobs are missing."""
    write_mixed_jobs(shell)
    first = run_inside("jobs.jsonl", "--shard", "1/3", "--out", "r.jsonl")
    if state == "deleted":
        (shell.folder / "r.jsonl.state").unlink()
    before, requests = shell.files(), len(server.requests)
    refused = run_inside("jobs.jsonl", "--out", "r.jsonl", *other)
    if state == "deleted" and not other:
        assert refused.code == 1
        return
    assert refused.code == 2
    assert "--shard" in refused.error
    assert (shell.files().keys(), len(server.requests)) == (before.keys(), requests)
    assert shell.files()["r.jsonl"] == before["r.jsonl"]
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--shard", "1/3").code == first.code


def test_shard_on_the_output_of_all_jobs_is_refused(run_inside: Run, server: Server, shell: Shell) -> None:
    write_mixed_jobs(shell)
    run_inside("jobs.jsonl", "--out", "r.jsonl")
    refused = run_inside("jobs.jsonl", "--out", "r.jsonl", "--shard", "1/3")
    assert "rows of jobs that are not in --shard 1/3" in refused.error


def test_shard_without_jobs_is_complete(run_inside: Run, server: Server, shell: Shell) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    codes = {number: run_inside("jobs.jsonl", "--shard", f"{number}/4") for number in range(1, 5)}
    assert {run.code for run in codes.values()} == {0}
    empty = [run for number, run in codes.items() if not names_in(shell, f"jobs.{number}-of-4.results.jsonl")]
    assert len(empty) == 3
    assert "of jobs.jsonl holds no job" in empty[0].row("note")


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/2/3", ""])
def test_shard_that_is_none_is_refused(run_inside: Run, shell: Shell, text: str) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    refused = run_inside("jobs.jsonl", f"--shard={text}")
    assert refused.code == 2
    assert "--shard must be K/N with K from 1 to N" in refused.error


def test_order_and_batches_send_the_same_part(run_inside: Run, server: Server, shell: Shell) -> None:
    write_mixed_jobs(shell)
    run_inside("jobs.jsonl", "--shard", "1/3")
    expected = Counter(names_in(shell, "jobs.1-of-3.results.jsonl"))
    run_inside("jobs.jsonl", "--shard", "1/3", "--order", "longest", "--out", "ordered.jsonl")
    assert Counter(names_in(shell, "ordered.jsonl")) == expected
    (shell.folder / "config.toml").write_text("[batch]\npoll_min_s = 0.05\npoll_max_s = 0.1\n")
    run_inside("jobs.jsonl", "--shard", "1/3", "--batch", "--simulate", "--out", "batch.jsonl")
    assert Counter(names_in(shell, "batch.jsonl")) == expected


def test_estimate_and_rehearse_count_the_jobs_of_the_shard(run_inside: Run, server: Server, shell: Shell) -> None:
    write_mixed_jobs(shell)
    run_inside("jobs.jsonl", "--shard", "3/3", "--simulate")
    jobs = len(names_in(shell, "jobs.3-of-3.simulated.jsonl"))
    estimated = json.loads(run_inside("estimate", "jobs.jsonl", "--shard", "3/3", "--json").out)
    assert estimated["jobs"]["to_send"] == jobs
    rehearsed = json.loads(run_inside("rehearse", "jobs.jsonl", "--shard", "3/3", "--json").out)
    assert rehearsed["done"] == jobs
