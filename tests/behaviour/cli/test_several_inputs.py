"""Several job files in one run, also compressed ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from processor.input import job_file
from tests.support.cli_world import ROW_KEYS, ProgramResult, Server, Shell, chat_job, chat_jobs, zstd_compress

Run = Callable[..., ProgramResult]

FILES = ["a.jsonl", "b.jsonl.gz", "c.zst"]
LOCAL = ("--out", "r.jsonl", "--base-url", "http://127.0.0.1:9/v1")
"""Where no published prices are looked up."""


@pytest.fixture
def three_files(shell: Shell) -> Path:
    """Two jobs each, with one broken line in the second."""
    folder = shell.folder
    shell.write("a.jsonl", chat_job("a1"), chat_job("a2"))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(f"{json.dumps(chat_job('b1'))}\nbroken\n".encode()))
    text = f"{json.dumps(chat_job('c1'))}\n{json.dumps(chat_job('a1'))}\n"
    (folder / "c.zst").write_bytes(zstd_compress(text.encode()))
    return folder


def places(shell: Shell, name: str) -> list[tuple[str, int, str | None]]:
    return sorted((row["file"], row["line"], row["custom_id"]) for row in shell.rows(name))


def test_each_row_names_its_file_and_a_second_run_sends_nothing(
    shell: Shell, run_inside: Run, server: Server, three_files: Path
) -> None:
    first = run_inside(*FILES, "--out", "r.jsonl")
    assert first.code == 1
    assert first.row("jobs") == "a.jsonl, b.jsonl.gz, c.zst: 6 jobs"
    assert places(shell, "r.jsonl") == [
        *(("a.jsonl", 1, "a1"), ("a.jsonl", 2, "a2")),
        *(("b.jsonl.gz", 1, "b1"), ("c.zst", 1, "c1")),
    ]
    assert places(shell, "r.errors.jsonl") == [("b.jsonl.gz", 2, None), ("c.zst", 2, "a1")]
    assert [*shell.rows("r.jsonl")[0]][:10] == ROW_KEYS
    failures = {row["file"]: row["error"]["message"] for row in shell.rows("r.errors.jsonl")}
    assert failures["b.jsonl.gz"].startswith("b.jsonl.gz, line 2: broken JSON")
    sent = len(server.requests)
    second = run_inside(*FILES, "--out", "r.jsonl")
    assert (second.code, len(server.requests)) == (1, sent)
    assert "4 already done" in second.row("jobs")
    assert places(shell, "r.errors.jsonl") == [("b.jsonl.gz", 2, None), ("c.zst", 2, "a1")]


def test_row_of_a_broken_line_goes_once_the_line_is_mended(
    shell: Shell, run_inside: Run, server: Server, three_files: Path
) -> None:
    run_inside(*FILES, "--out", "r.jsonl")
    mended = f"{json.dumps(chat_job('b1'))}\n{json.dumps(chat_job('b2'))}\n"
    (three_files / "b.jsonl.gz").write_bytes(gzip.compress(mended.encode()))
    run_inside(*FILES, "--out", "r.jsonl")
    assert ("b.jsonl.gz", 2, "b2") in places(shell, "r.jsonl")
    assert places(shell, "r.errors.jsonl") == [("c.zst", 2, "a1")]


def test_file_that_was_cut_stops_the_run_and_the_whole_one_is_gone_on_with(
    shell: Shell, run_inside: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.write("a.jsonl", *chat_jobs(3))
    text = "".join(json.dumps(chat_job(f"b{at}", metadata="x" * 9000)) + "\n" for at in range(100))
    whole = zstd_compress(text.encode())
    path = shell.folder / "b.zst"
    path.write_bytes(whole[:-2])
    refused = run_inside("a.jsonl", "b.zst", "--out", "r.jsonl")
    assert (refused.code, len(server.requests)) == (2, 0)
    assert refused.error == "cannot read b.zst: the zstd file ends too early: it was cut, or is still being written"
    monkeypatch.setattr(job_file, "MAX_COUNTED_COMPRESSED_BYTES", 0)  # as with a large file
    stopped = run_inside("a.jsonl", "b.zst", "--out", "r.jsonl")
    assert stopped.code == 3
    assert "cannot read b.zst: the zstd file ends too early" in stopped.err
    assert 1 <= len(shell.rows("r.jsonl")) < 103
    assert not (shell.folder / "r.errors.jsonl").exists(), "a torn line is no failed job"
    path.write_bytes(whole)
    assert run_inside("a.jsonl", "b.zst", "--out", "r.jsonl").code == 0
    assert len(shell.rows("r.jsonl")) == 103
    assert len(server.requests) == 103, "no job was sent twice"


@pytest.mark.process  # asks for prices
def test_other_commands_read_several_files(shell: Shell, run_inside: Run, three_files: Path) -> None:
    estimate = run_inside("estimate", *FILES, *LOCAL, "--json")
    invalid = json.loads(estimate.out)["jobs"]["invalid"]
    assert {code: (found["files"], found["lines"]) for code, found in invalid.items()} == {
        "invalid_json": (["b.jsonl.gz"], [2]),
        "duplicate_custom_id": (["c.zst"], [2]),
    }
    text = run_inside("estimate", *FILES, *LOCAL).out
    assert "(line b.jsonl.gz:2)" in text
    assert "process a.jsonl b.jsonl.gz c.zst --out r.jsonl" in text
    rehearsal = json.loads(run_inside("rehearse", *FILES, *LOCAL, "--json").out)
    assert (rehearsal["done"], rehearsal["failed"]) == (4, 2)


def test_one_job_of_several_files_is_shown(shell: Shell, run_inside: Run, three_files: Path) -> None:
    run_inside(*FILES, "--out", "r.jsonl", "--simulate", "--quiet")
    assert "c1, line 1 of c.zst" in run_inside("show", "r.jsonl", "line:c.zst:1").out
    assert run_inside("show", "r.jsonl", "line:1").error.startswith("line 1 of which job file? Write for example line:")
    assert run_inside("show", "r.jsonl", "line:c.zst:9").error.startswith("no row of line 9 of c.zst in")


def test_rows_of_a_table_are_sent_by_a_template(shell: Shell, run_inside: Run, server: Server) -> None:
    (shell.folder / "t.csv").write_text("id,city,metadata\nr1,Paris,a\nr2,Oslo,b\n")
    (shell.folder / "t.json").write_text('{"model": "m", "prompt": "Describe {city}.", "max_tokens": 5}')
    assert run_inside("t.csv", "--out", "r.jsonl").error.startswith("t.csv is a table: give --template FILE")
    command = ("t.csv", "--template", "t.json", "--out", "r.jsonl")
    assert run_inside(*command).code == 0
    rows = sorted(shell.rows("r.jsonl"), key=lambda row: int(row["line"]))
    assert [(row["custom_id"], row["line"], row["metadata"]) for row in rows] == [("r1", 1, "a"), ("r2", 2, "b")]
    (shell.folder / "t.csv").write_text("id,city,metadata\nr0,Rome,\nr1,Paris,a\nr2,Oslo,b\n")
    assert "2 already done" in run_inside(*command).row("jobs")
    assert len(server.requests) == 3, "a row that was added is sent, and no other"
    assert run_inside("a.jsonl", "--template", "t.json", "--out", "r.jsonl").error.startswith(
        "--template is for tables"
    )


def test_report_refuses_a_compressed_job_file(shell: Shell, run_inside: Run, three_files: Path) -> None:
    run_inside("a.jsonl", "--out", "r.jsonl", "--simulate", "--quiet")
    result = run_inside("report", "r.jsonl", "--with-input", "c.zst")
    assert (result.code, result.error) == (2, "--with-input reads no compressed job files: unpack c.zst")


def test_stdin_may_be_one_of_the_files(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("a.jsonl", chat_job("a1"))
    found = run_inside("-", "a.jsonl", "--out", "r.jsonl", stdin=json.dumps(chat_job("s1")).encode())
    assert found.code == 0
    assert places(shell, "r.jsonl") == [("-", 1, "s1"), ("a.jsonl", 1, "a1")]
