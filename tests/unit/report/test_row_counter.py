"""Counts are exact: of each job one row counts, wherever the file is cut into blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from processor.report import row_counter
from processor.report.row_counter import count_rows
from tests.support.report_rows import failed_row, reply_row, write_rows


def test_sums_are_those_of_the_rows(tmp_path: Path) -> None:
    results = write_rows(tmp_path / "r.jsonl", [reply_row(number, attempts=2) for number in range(1, 101)])
    errors = write_rows(tmp_path / "r.errors.jsonl", [failed_row(number) for number in range(101, 111)])
    counts = count_rows([results, errors])
    assert (counts.replies, counts.failed, counts.attempts) == (100, 10, 210)
    assert counts.prompt_tokens.sum == 1000
    assert counts.completion_tokens.sum == sum(range(1, 101))
    assert counts.cost_usd == pytest.approx(0.1, abs=1e-12)
    assert counts.failures_by_code == {"rejected": 10}
    (model,) = counts.by_model.values()
    assert (model.replies, model.failed, model.total.largest) == (100, 10, 2.0)


def test_last_row_of_a_job_counts_and_a_reply_before_a_failure(tmp_path: Path) -> None:
    results = write_rows(tmp_path / "r.jsonl", [reply_row(1), reply_row(2), reply_row(1, attempts=7)])
    errors = write_rows(tmp_path / "r.errors.jsonl", [failed_row(2), failed_row(3, "a"), failed_row(3, "b")])
    counts = count_rows([results, errors])
    assert (counts.replies, counts.failed, counts.superseded) == (2, 1, 3)
    assert counts.attempts == 7 + 1 + 1
    assert counts.failures_by_code == {"b": 1}


def test_lines_that_are_no_rows_are_counted_but_for_a_torn_last_one(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "r.jsonl", [reply_row(1), {"no": "row"}], end=b'not JSON\n\n{"id": "torn')
    counts = count_rows([path])
    assert (counts.replies, counts.damaged) == (1, 2)


def test_last_row_without_a_line_feed_counts(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "r.jsonl", [reply_row(1), reply_row(2)])
    path.write_bytes(path.read_bytes()[:-1])
    assert count_rows([path]).replies == 2


def test_failed_lines_without_an_id_are_told_apart_by_their_lines(tmp_path: Path) -> None:
    rows = [failed_row(0, "invalid_json", custom_id=None, timing=None, line=line) for line in (3, 4)]
    assert count_rows([write_rows(tmp_path / "r.errors.jsonl", rows)]).failed == 2


@pytest.mark.parametrize("block_bytes", [64, 700, 5000])
def test_counts_do_not_depend_on_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    rows = [reply_row(number % 150) for number in range(200)]
    path = write_rows(tmp_path / "r.jsonl", rows, end=b"x" * 1500 + b"\n")
    whole = count_rows([path])
    monkeypatch.setattr(row_counter, "BLOCK_BYTES", block_bytes)
    parts = count_rows([path])
    assert (whole.replies, whole.superseded, whole.damaged) == (150, 50, 1)
    for name in ("replies", "superseded", "damaged", "attempts", "first_start", "last_end"):
        assert getattr(parts, name) == getattr(whole, name)
    assert [row.key for row in parts.longest.rows()] == [row.key for row in whole.longest.rows()]
    assert [row.key for row in parts.sample.rows()] == [row.key for row in whole.sample.rows()]
    assert [bucket.replies for _, bucket in parts.time.all()] == [bucket.replies for _, bucket in whole.time.all()]


@pytest.mark.process
def test_counts_are_the_same_with_a_second_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rows(tmp_path / "r.jsonl", [reply_row(number) for number in range(1, 400)])
    whole = count_rows([path])
    monkeypatch.setattr(row_counter, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(row_counter, "MIN_WORKER_BYTES", 0)
    parts = count_rows([path])
    assert (parts.replies, parts.completion_tokens.sum) == (whole.replies, whole.completion_tokens.sum)


def test_values_of_any_type_are_read(tmp_path: Path) -> None:
    odd = [
        reply_row(1, timing=None, usage=None),
        reply_row(2, timing={"started_at": "9999-12-31T23:59:59Z", "total_s": "x"}, attempts="many"),
        reply_row(3, timing={"started_at": 5, "total_s": -1}, usage={"prompt_tokens": True}),
        reply_row(4, response=None, asked_model=7, endpoint=None, cost_usd="0.1", line=None),
        reply_row(5, error="text"),
    ]
    counts = count_rows([write_rows(tmp_path / "r.jsonl", odd)])
    assert (counts.replies, counts.failed) == (4, 1)


def test_time_of_years_stays_in_bounded_memory(tmp_path: Path) -> None:
    rows = [
        reply_row(year, timing={"started_at": f"{year}-06-01T00:00:00Z", "total_s": 1.0}) for year in range(1971, 2971)
    ]
    counts = count_rows([write_rows(tmp_path / "r.jsonl", rows)])
    assert len(counts.time) <= 360
    assert sum(bucket.replies for _, bucket in counts.time.all()) == 1000
