"""``process export``: formats, order and what is added to rows."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from processor.core.compression import ZSTD_MODULE
from processor.export.formats.registry import FORMATS
from tests.support.cli_world import ProgramResult, Shell
from tests.support.report_rows import failed_row, reply_row, write_rows

Run = Callable[..., ProgramResult]

BIG = 2**70


@pytest.fixture
def rows(shell: Shell) -> list[dict[str, Any]]:
    """Three replies, not in their order, and a failed job; with the job file."""
    rows = [
        reply_row(3, metadata={"n": BIG}),
        reply_row(1, text='say "hi",\nand\ttab', cost_usd=None),
        reply_row(2),
    ]
    rows[1]["response"]["body"]["choices"][0]["message"]["content"] = rows[1].pop("text")
    write_rows(shell.folder / "r.jsonl", rows)
    write_rows(shell.folder / "r.errors.jsonl", [failed_row(4)])
    jobs: list[dict[str, Any]] = [{"id": f"job-{at}", "model": "m", "prompt": f"p{at}"} for at in range(1, 5)]
    jobs[2]["metadata"] = {"n": BIG}
    shell.write("jobs.jsonl", *jobs)
    return rows


def read_csv(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_json_lines_are_the_rows_as_they_stand(shell: Shell, run_inside: Run, rows: list[Any]) -> None:
    assert run_inside("export", "r.jsonl", "--out", "o.jsonl") == ProgramResult(0, "o.jsonl: 3 rows\n", "")
    assert (shell.folder / "o.jsonl").read_bytes() == (shell.folder / "r.jsonl").read_bytes()
    run_inside("export", "r.jsonl", "--out", "sorted.jsonl", "--sort", "--with-failed")
    assert [row["line"] for row in shell.rows("sorted.jsonl")] == [1, 2, 3, 4]


@pytest.mark.parametrize(("name", "delimiter"), [("o.csv", ","), ("o.tsv", "\t")])
def test_table_of_text_has_a_row_for_each_job(
    shell: Shell,
    run_inside: Run,
    rows: list[Any],
    name: str,
    delimiter: str,
) -> None:
    run_inside("export", "r.jsonl", "--out", name, "--sort", "--with-failed")
    first, _, third, failed = read_csv(shell.folder / name, delimiter)
    assert (first["custom_id"], first["text"]) == ("job-1", 'say "hi",\nand\ttab')
    assert (first["finish_reason"], first["model"], first["prompt_tokens"]) == ("stop", "m", "10")
    assert (first["cost_usd"], third["cost_usd"], third["metadata"]) == ("", "0.001", f'{{"n":{BIG}}}')
    assert (failed["text"], failed["error_code"], failed["error_message"]) == ("", "rejected", "no")


def test_texts_are_json_strings(shell: Shell, run_inside: Run, rows: list[Any]) -> None:
    run_inside("export", "r.jsonl", "--out", "o.jsonl", "--text", "--sort")
    lines = (shell.folder / "o.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == ['say "hi",\nand\ttab', "reply 2", "reply 3"]


def test_input_is_added_to_rows_in_its_order(shell: Shell, run_inside: Run, rows: list[Any]) -> None:
    result = run_inside("export", "r.jsonl", "--out", "o.jsonl", "--input", "jobs.jsonl", "--with-input")
    # The made-up fingerprints of the rows are not those of the jobs.
    notes = "1 job of --input without a row; 3 jobs edited since their replies"
    assert result == ProgramResult(1, f"o.jsonl: 3 rows; {notes}\n", "")
    found = shell.rows("o.jsonl")
    assert [(row["custom_id"], row["input"]["prompt"]) for row in found] == [
        (f"job-{at}", f"p{at}") for at in (1, 2, 3)
    ]
    assert found[2]["input"]["metadata"] == found[2]["metadata"] == {"n": BIG}
    run_inside("export", "r.jsonl", "--out", "o.csv", "--input", "jobs.jsonl", "--with-input")
    assert json.loads(read_csv(shell.folder / "o.csv")[0]["input"])["prompt"] == "p1"


def test_cookbook_lines_hold_request_response_and_metadata(shell: Shell, run_inside: Run, rows: list[Any]) -> None:
    result = run_inside(
        "export", "r.jsonl", "--out", "o.jsonl", "--format", "cookbook", "--input", "jobs.jsonl", "--with-failed"
    )
    assert result.code == 0
    lines = [json.loads(line) for line in (shell.folder / "o.jsonl").read_text().splitlines()]
    request = {"model": "m", "messages": [{"role": "user", "content": "p2"}]}
    assert lines[1] == [request, rows[2]["response"]["body"]]
    assert lines[2][2] == {"n": BIG}
    assert lines[3][1] == ["no"]


def test_batch_lines_are_those_of_the_batch_api(shell: Shell, run_inside: Run, rows: list[Any]) -> None:
    run_inside("export", "r.jsonl", "--out", "o", "--format", "openai-batch")
    first = shell.rows("o")[0]
    assert first == {
        "id": f"batch_req_{3:032x}",
        "custom_id": "job-3",
        "response": rows[0]["response"],
        "error": None,
    }


def test_field_of_replies_that_are_json_is_a_column(shell: Shell, run_inside: Run) -> None:
    replies = [reply_row(at) for at in range(1, 4)]
    for row, text in zip(replies, ('{"a": {"b": [1, 2.5]}}', '{"a": 7}', "no JSON"), strict=True):
        row["response"]["body"]["choices"][0]["message"]["content"] = text
    write_rows(shell.folder / "r.jsonl", replies)
    result = run_inside("export", "r.jsonl", "--out", "o.csv", "--json-field", "a", "--json-field", "a.b.1")
    assert (result.code, result.out) == (1, "o.csv: 3 rows; 3 values missing in replies\n")
    found = read_csv(shell.folder / "o.csv")
    assert [(row["a"], row["a.b.1"]) for row in found] == [('{"b":[1,2.5]}', "2.5"), ("7", ""), ("", "")]
    run_inside("export", "r.jsonl", "--out", "o.jsonl", "--json-field", "a.b")
    assert shell.rows("o.jsonl")[0] == {"custom_id": "job-1", "a.b": [1, 2.5]}


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["o.jsonl", "o.csv"])
def test_name_of_the_file_compresses_it(
    shell: Shell,
    run_inside: Run,
    rows: list[Any],
    name: str,
    suffix: str,
) -> None:
    run_inside("export", "r.jsonl", "--out", name)
    run_inside("export", "r.jsonl", "--out", name + suffix)
    decompress = gzip.decompress if suffix == ".gz" else importlib.import_module(ZSTD_MODULE).decompress
    assert decompress((shell.folder / (name + suffix)).read_bytes()) == (shell.folder / name).read_bytes()


def test_new_file_is_readable_and_an_existing_one_keeps_its_mode(
    shell: Shell,
    run_inside: Run,
    rows: list[Any],
) -> None:
    before = os.umask(0o027)
    try:
        run_inside("export", "r.jsonl", "--out", "new.csv")
        (shell.folder / "old.csv").write_text("old")
        (shell.folder / "old.csv").chmod(0o600)
        run_inside("export", "r.jsonl", "--out", "old.csv")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((shell.folder / name).stat().st_mode) for name in ("new.csv", "old.csv")]
    assert modes == [0o640, 0o600]
    assert len(read_csv(shell.folder / "old.csv")) == 3


def test_export_that_fails_leaves_the_earlier_file(
    shell: Shell,
    run_inside: Run,
    rows: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (shell.folder / "o.jsonl").write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FORMATS["jsonl"], "write", fail)
    result = run_inside("export", "r.jsonl", "--out", "o.jsonl")
    assert (result.code, result.error) == (2, "cannot write o.jsonl: no space left on device")
    assert (shell.folder / "o.jsonl").read_text() == "old"
    assert not [path for path in shell.folder.iterdir() if "exporting" in path.name]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["r.jsonl"], "where to? Give --out FILE"),
        (["none.jsonl", "--out", "o.csv"], "there is no results file none.jsonl"),
        (["r.jsonl", "--out", "o.txt"], "what format has o.txt? Give --format jsonl, csv, "),
        (["r.jsonl", "--out", "o.csv", "--format", "xlsx"], "--format must be one of jsonl, csv, "),
        (["r.jsonl", "--out", "o.parquet.gz"], "o.parquet.gz: parquet is compressed in itself"),
        (["r.jsonl", "--out", "o.csv", "--text"], "--text is for --format jsonl"),
        (["r.jsonl", "--out", "o.csv", "--with-input"], "--with-input needs the job files: give --input JOBS"),
        (["r.jsonl", "--out", "o", "--format", "cookbook"], "--format cookbook needs the job files"),
        (["r.jsonl", "--out", "o.csv", "--input", "no.jsonl"], "cannot read no.jsonl: no such file or directory"),
        (["r.jsonl", "--out", "o.csv", "--input", "-"], "--input reads the jobs twice, so not from stdin"),
        (["r.jsonl", "--out", "./r.jsonl"], "./r.jsonl is read by this export"),
        (["r.jsonl", "--out", "no/o.csv"], "cannot write no/o.csv: no such file or directory"),
        (["r.jsonl", "--out", ".", "--format", "csv"], "cannot write .: it is a folder"),
        (["jobs.jsonl", "--out", "o.csv"], "jobs.jsonl is not a results file: it holds no row"),
    ],
)
def test_mistake_says_what_to_do(run_inside: Run, rows: list[Any], args: list[str], error: str) -> None:
    result = run_inside("export", *args)
    assert result.code == 2
    assert result.error.startswith(error)
