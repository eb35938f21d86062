"""Which row of a job stays, over several runs."""

from __future__ import annotations

from dataclasses import replace

from processor.core.models import Reply
from processor.output.job_index import JobStatus
from processor.output.sink import END_OF_FILE
from processor.simulator.fault_injecting_storage import (
    DiskState,
)
from processor.simulator.virtual_clock import run
from tests.support.results_samples import (
    ERRORS,
    OUT,
    MiniRun,
    Provider,
    failure,
    fingerprint_of,
    ids,
    invalid_line,
    open_results,
    reply,
    rows,
    write_results,
)


def test_reply_replaces_failure_and_last_failure_replaces_earlier_ones() -> None:
    disk_state = DiskState()
    write_results(disk_state, failure("a"), failure("b"), failure("c"))
    write_results(disk_state, reply("a"), failure("b", attempts=12))
    assert ids(disk_state.contents(OUT)) == ["a"]
    assert [(row["custom_id"], row["attempts"]) for row in rows(disk_state.contents(ERRORS))] == [("c", 6), ("b", 12)]
    write_results(disk_state, reply("b"), reply("c"))
    assert disk_state.contents(ERRORS) is None


def test_new_reply_of_a_changed_job_replaces_the_old_one() -> None:
    disk_state = DiskState()
    write_results(disk_state, reply("a", "old"), reply("b"))
    journal = write_results(disk_state, reply("a", "new", request="other", attempts=2))
    assert (journal.recovered.replied, journal.recovered.failed) == (2, 0)
    assert [row["response"]["body"]["text"] for row in rows(disk_state.contents(OUT))] == ["hello", "new"]


def test_superseded_reply_left_by_a_crash_is_dropped_by_the_next_run() -> None:
    disk_state = DiskState()
    write_results(disk_state, reply("a", "old"), reply("b"))
    write_results(disk_state, reply("a", "new", request="other"), lines_read=None)
    assert ids(disk_state.contents(OUT)) == ["a", "b", "a"]
    journal = open_results(disk_state)
    assert ids(disk_state.contents(OUT)) == ["b", "a"]
    assert journal.job_index.classify("a", fingerprint_of("other")) is JobStatus.DONE


def test_failed_row_never_replaces_a_reply() -> None:
    disk_state = DiskState()
    write_results(disk_state, reply("a", "old"))
    before = disk_state.contents(OUT)
    for lines_read in (None, END_OF_FILE):
        write_results(disk_state, failure("a", request="other"), lines_read=lines_read)
        assert disk_state.contents(OUT) == before
        assert disk_state.contents(ERRORS) is None


def test_row_of_an_invalid_line_is_written_once_over_all_runs() -> None:
    disk_state = DiskState()
    found = [invalid_line(1), invalid_line(2), invalid_line(3, "x", "a", "duplicate_custom_id")]
    write_results(disk_state, reply("a"), *found)
    before = disk_state.contents(ERRORS)
    assert [row["line"] for row in rows(before)] == [1, 2, 3]
    journal = write_results(disk_state, *found)
    assert (journal.recovered.replied, journal.recovered.failed) == (1, 0)
    assert disk_state.contents(ERRORS) == before


def test_row_of_a_repaired_line_is_dropped_after_the_line_was_read() -> None:
    disk_state = DiskState()
    write_results(disk_state, *(invalid_line(number) for number in (1, 5, 9)))
    write_results(disk_state, invalid_line(1), lines_read=4)
    assert [row["line"] for row in rows(disk_state.contents(ERRORS))] == [1, 5, 9]
    write_results(disk_state, invalid_line(1), lines_read=5)
    assert [row["line"] for row in rows(disk_state.contents(ERRORS))] == [1, 9]
    write_results(disk_state, lines_read=None)
    assert [row["line"] for row in rows(disk_state.contents(ERRORS))] == [1, 9]
    write_results(disk_state)
    assert disk_state.contents(ERRORS) is None


def test_moved_invalid_line_has_one_row_with_its_new_number() -> None:
    disk_state = DiskState()
    write_results(disk_state, invalid_line(1), failure("a"))
    write_results(disk_state, invalid_line(2))
    assert [row["line"] for row in rows(disk_state.contents(ERRORS))] == [1, 2]
    assert ids(disk_state.contents(ERRORS)) == ["a", None]


def test_job_removed_from_the_job_file_keeps_its_row() -> None:
    disk_state = DiskState()
    write_results(disk_state, reply("a"), failure("b"))
    write_results(disk_state)
    assert (ids(disk_state.contents(OUT)), ids(disk_state.contents(ERRORS))) == (["a"], ["b"])


def test_repeated_small_run_resumes_over_every_kind_of_line() -> None:
    jobs = [("a", "1"), (None, "{"), ("b", "2"), ("a", "1"), ("bad", "3"), ("down", "4"), ("c", "5")]
    provider = Provider(refuses=["bad"], fails=["down"])
    disk_state = DiskState()
    for _ in range(3):
        run(MiniRun(jobs, provider)(open_results(disk_state)))
        assert sorted(ids(disk_state.contents(OUT))) == ["a", "b", "c"]
        errors = sorted((row["line"], row["error"]["code"]) for row in rows(disk_state.contents(ERRORS)))
        assert errors == [(2, "invalid_json"), (4, "duplicate_custom_id"), (5, "rejected"), (6, "timeout")]
    assert provider.sent == {"a": 1, "b": 1, "c": 1, "bad": 1, "down": 3}
    assert next(row["attempts"] for row in rows(disk_state.contents(ERRORS)) if row["line"] == 6) == 3


def test_failed_row_keeps_the_refusing_response() -> None:
    disk_state = DiskState()
    write_results(disk_state, replace(failure("a"), reply=Reply(status_code=400, request_id=None, body={"error": 1})))
    assert rows(disk_state.contents(ERRORS))[0]["response"]["body"] == {"error": 1}
