"""Which rows of an output count, and to which jobs they belong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.json_reading import exact_fields
from processor.export.pairing import pair
from processor.export.row_index import RowIndex
from processor.input.job_file import InvalidLine
from processor.input.job_files import JobFiles
from processor.input.job_formats import JobDefaults, ParsedJob
from tests.support.report_rows import failed_row, reply_row, write_rows


def exported(index: RowIndex) -> list[tuple[str, int]]:
    rows = [exact_fields(index.raw(place)) for place in index.places]
    return [(row["custom_id"], row["attempts"]) for row in rows]


def test_last_row_of_a_job_counts_and_a_reply_before_a_failure(tmp_path: Path) -> None:
    replies = write_rows(tmp_path / "r.jsonl", [reply_row(1), reply_row(2), reply_row(1, attempts=3)])
    failures = write_rows(tmp_path / "r.errors.jsonl", [failed_row(2), failed_row(4), failed_row(4, attempts=5)])
    with RowIndex([replies, failures]) as index:
        assert exported(index) == [("job-2", 1), ("job-1", 3), ("job-4", 5)]
    with RowIndex([replies]) as index:
        assert exported(index) == [("job-2", 1), ("job-1", 3)]
    with RowIndex([tmp_path / "none.jsonl", failures]) as index:
        assert exported(index) == [("job-2", 1), ("job-4", 5)]


def test_row_that_is_being_written_and_lines_that_are_no_rows_are_left_out(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "r.jsonl", [reply_row(1)], end=b'nonsense\n\n{"id": "torn')
    with RowIndex([path]) as index:
        assert exported(index) == [("job-1", 1)]
        assert index.damaged == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30))
def test_rows_that_count_are_those_of_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, written: Sequence[tuple[bool, int]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = [
        (is_reply, (reply_row if is_reply else failed_row)(job, attempts=at))
        for at, (is_reply, job) in enumerate(written)
    ]
    files = [
        write_rows(folder / name, [row for is_reply, row in rows if is_reply is wanted])
        for name, wanted in (("r.jsonl", True), ("r.errors.jsonl", False))
    ]
    last: dict[str, int] = {}
    for wanted in (False, True):
        last |= {row["custom_id"]: row["attempts"] for is_reply, row in rows if is_reply is wanted}
    with RowIndex(files) as index:
        assert sorted(exported(index)) == sorted(last.items())


# ---------------------------------------------------------------- jobs


def write_jobs(path: Path, jobs: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps({"model": "m", **job}) + "\n" for job in jobs))
    return path


def jobs_in(path: Path) -> list[ParsedJob]:
    with closing(JobFiles([str(path)], JobDefaults())) as files:
        return [job for job in files.parse_lines() if isinstance(job, ParsedJob)]


def pairs(tmp_path: Path, rows: list[dict[str, Any]], jobs: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    """The ids of rows, and the prompts of the jobs that they belong to."""
    path = write_jobs(tmp_path / "jobs.jsonl", jobs)

    def read() -> Iterator[ParsedJob | InvalidLine]:
        with closing(JobFiles([str(path)], JobDefaults())) as files:
            yield from files.parse_lines()

    with RowIndex([write_rows(tmp_path / "r.jsonl", rows)]) as index:
        return [
            (
                None if place is None else exact_fields(index.raw(place))["custom_id"],
                None if job is None else job.body["messages"][0]["content"],
            )
            for place, job in pair(index, read)
        ]


def test_rows_are_found_by_id_after_lines_were_moved_added_and_edited(tmp_path: Path) -> None:
    rows = [reply_row(3), reply_row(1), reply_row(2)]
    jobs = [{"id": "new", "prompt": "x"}, {"id": "job-2", "prompt": "two"}, {"id": "job-1", "prompt": "edited"}]
    assert pairs(tmp_path, rows, jobs) == [(None, "x"), ("job-2", "two"), ("job-1", "edited"), ("job-3", None)]


def test_rows_are_found_by_request_where_ids_have_changed(tmp_path: Path) -> None:
    before = jobs_in(write_jobs(tmp_path / "before.jsonl", [{"id": "a", "prompt": "A"}, {"id": "b", "prompt": "B"}]))
    rows = [reply_row(at, id=job.fingerprint, custom_id=job.custom_id) for at, job in enumerate(before)]
    jobs = [{"id": "b", "prompt": "A"}, {"id": "renamed", "prompt": "A"}, {"id": "again", "prompt": "A"}]
    assert pairs(tmp_path, rows, jobs) == [("b", "A"), ("a", "A"), (None, "A")], "an id before a request, and each once"


def test_equal_jobs_without_an_id_have_their_own_rows(tmp_path: Path) -> None:
    same = [{"prompt": "A"}, {"prompt": "A"}, {"prompt": "B"}]
    first, _, other = jobs_in(write_jobs(tmp_path / "jobs.jsonl", same))
    names = [f"{first.fingerprint}-2", first.fingerprint, other.fingerprint]
    rows = [reply_row(at, custom_id=name) for at, name in enumerate(names)]
    assert pairs(tmp_path, rows, same) == [
        (first.fingerprint, "A"),
        (f"{first.fingerprint}-2", "A"),
        (other.fingerprint, "B"),
    ]


def test_second_job_with_an_id_has_no_row(tmp_path: Path) -> None:
    jobs = [{"id": "job-1", "prompt": "A"}, {"id": "job-1", "prompt": "B"}]
    assert pairs(tmp_path, [reply_row(1)], jobs) == [("job-1", "A")]
