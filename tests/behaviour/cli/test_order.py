"""``--order``: the shortest or the longest jobs first."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from random import Random

import pytest

from processor.scheduler import job_order
from processor.simulator.settings import SimulatorSettings
from tests.support.cli_world import ProgramResult, Server, Shell, chat_job

Run = Callable[..., ProgramResult]
StartServer = Callable[[SimulatorSettings], Server]


def sized(name: str, size: int, **more: object) -> dict[str, object]:
    """A job of so many characters."""
    return chat_job(name, max_tokens=10, messages=[{"role": "user", "content": "x" * size}], **more)


def answered(shell: Shell, name: str = "r.jsonl") -> list[str]:
    return [row["custom_id"] for row in shell.rows(name)]


def run_ordered(run_inside: Run, order: str, *args: str) -> ProgramResult:
    return run_inside("jobs.jsonl", "--out", "r.jsonl", "--order", order, "--concurrency", "1", *args)


def test_jobs_are_sent_by_prompt_and_most_output(shell: Shell, run_inside: Run, server: Server) -> None:
    jobs = [sized("d", 400), sized("a", 4), sized("c", 4) | {"max_tokens": 90}, sized("b", 8), sized("e", 4000)]
    shell.write("jobs.jsonl", *jobs)
    assert run_ordered(run_inside, "shortest").code == 0
    assert answered(shell) == ["a", "b", "c", "d", "e"]
    assert {row["custom_id"]: row["line"] for row in shell.rows("r.jsonl")} == {"d": 1, "a": 2, "c": 3, "b": 4, "e": 5}
    (shell.folder / "r.jsonl").unlink()
    assert run_ordered(run_inside, "longest").code == 0
    assert answered(shell) == ["e", "d", "c", "b", "a"]


def test_order_of_equal_jobs_and_their_names_are_those_of_the_file(
    shell: Shell, run_inside: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_order, "_SORTED_AT_A_TIME", 7)
    rng = Random(0)
    sizes = [4 * rng.randint(1, 9) for _ in range(60)]
    shell.write("jobs.jsonl", *(sized(f"job-{at}", size) for at, size in enumerate(sizes)))
    assert run_ordered(run_inside, "shortest", "--limit", "50").code == 0
    expected = sorted(range(50), key=lambda at: sizes[at])
    assert answered(shell) == [f"job-{at}" for at in expected]


def test_lines_that_are_no_jobs_and_second_ones_of_an_id_are_judged_as_in_the_file(
    shell: Shell, run_inside: Run, server: Server
) -> None:
    shell.write("jobs.jsonl", sized("a", 400), sized("b", 4), sized("a", 1), sized("c", 40))
    with (shell.folder / "jobs.jsonl").open("a") as file:
        file.write('\n\n{"not json\n')
        file.write('{"prompt": "the last line", "id": "z", "model": "m", "max_tokens": 1}')
    assert run_ordered(run_inside, "shortest").code == 1
    assert answered(shell) == ["z", "b", "c", "a"]
    failed = {row["line"]: row["error"]["code"] for row in shell.rows("r.errors.jsonl")}
    assert failed == {3: "duplicate_custom_id", 7: "invalid_json"}
    assert [row["line"] for row in shell.rows("r.jsonl")] == [8, 2, 4, 1]
    requests = len(server.requests)
    again = run_ordered(run_inside, "longest")
    assert (again.code, len(server.requests)) == (1, requests)
    assert len(shell.rows("r.errors.jsonl")) == 2


def test_several_files_are_ordered_together(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("one.jsonl", sized("b", 40), sized("d", 4000))
    shell.write("two.jsonl", sized("c", 400), sized("a", 4))
    result = run_inside("one.jsonl", "two.jsonl", "--out", "r.jsonl", "--order", "shortest", "--concurrency", "1")
    assert result.code == 0, result.err
    assert answered(shell) == ["a", "b", "c", "d"]
    assert {row["custom_id"]: (row["file"], row["line"]) for row in shell.rows("r.jsonl")}["a"] == ("two.jsonl", 2)


def test_order_needs_files_that_can_be_read_twice(shell: Shell, run_inside: Run, server: Server) -> None:
    (shell.folder / "jobs.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "x", "model": "m"}\n'))
    result = run_inside("jobs.jsonl.gz", "--out", "r.jsonl", "--order", "longest")
    assert (result.code, len(server.requests)) == (2, 0)
    assert "convert it first" in result.error


def test_order_of_stdin_is_refused(run_inside: Run, server: Server) -> None:
    result = run_inside("-", "--out", "r.jsonl", "--order", "shortest", stdin=b'{"prompt": "x", "model": "m"}\n')
    assert (result.code, len(server.requests)) == (2, 0)
    assert "save those from stdin to a file" in result.error


def test_equal_jobs_without_an_id_keep_their_names(shell: Shell, run_inside: Run, server: Server) -> None:
    equal = {"model": "m", "prompt": "the same", "max_tokens": 5}
    shell.write("jobs.jsonl", {**equal, "metadata": 1}, {"model": "m", "prompt": "x", "max_tokens": 1}, equal, equal)
    assert run_ordered(run_inside, "shortest").code == 0
    by_line = {row["line"]: row["custom_id"] for row in shell.rows("r.jsonl")}
    assert by_line[4] == f"{by_line[3]}-2"
    requests = len(server.requests)
    assert run_ordered(run_inside, "file").code == 0
    assert len(server.requests) == requests
