"""Runs through Anthropic's batch API on a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest

from processor.batch.anthropic_batches import result_line
from processor.batch.sizes import BatchLimits
from processor.batch.submission import MAX_UNANSWERED
from processor.batch.verdicts import AccountRefused, Failed, SubmitAgain, verdict_on
from processor.core import exit_codes, json_bytes
from processor.core.events import Notice
from processor.core.models import JSON, Job
from processor.simulator.response_script import json_response
from tests.support.batch_world import BATCHES, BatchWorld
from tests.support.scheduler_world import short_job

JOBS = [short_job(number, url="/v1/messages", max_tokens=9) for number in range(20)]
SMALL = BatchLimits(jobs=8, bytes=1_000_000)
JOB = Job(line=1, custom_id="a", fingerprint="00" * 16, path="/v1/messages", model="m", body={"model": "m"})


def errored(kind: str, message: str = "x") -> JSON:
    return {"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": message}}}


def assert_one_row_each(world: BatchWorld) -> None:
    rows = [*world.rows(), *world.failures()]
    assert sorted(row["custom_id"] for row in rows) == sorted(job["id"] for job in JOBS)
    assert (world.journal(), world.left_files()) == ([], [])


def test_jobs_are_answered_and_the_batch_is_deleted() -> None:
    world = BatchWorld(shape="anthropic")
    assert world.run_batch(JOBS, limits=SMALL).exit_code == exit_codes.COMPLETE
    assert_one_row_each(world)
    row = world.rows()[0]
    assert row["served_by"] == "batch"
    assert row["response"]["body"]["type"] == "message"
    assert row["endpoint"] == "http://127.0.0.1/v1/messages"
    assert world.batches_left == 0


def test_what_is_done_is_told_once_the_batch_has_ended() -> None:
    run = BatchWorld(shape="anthropic").run_batch(JOBS)
    texts = [event.text.partition(" ")[2].partition(" ")[2] for event in run.events_of(Notice)]
    assert [text for text in texts if "submitted" not in text] == ["in progress: 20 jobs", "ended: 20 of 20 jobs done"]


def test_mixed_faults_leave_one_row_each() -> None:
    rates = {"batch_missing": 0.1, "batch_refused": 0.1, "batch_odd": 0.1, "batch_expired": 0.4}
    for seed in range(5):
        world = BatchWorld(shape="anthropic", seed=seed, rates=rates)
        run = world.run_batch(JOBS, limits=SMALL)
        assert run.exit_code in (exit_codes.COMPLETE, exit_codes.INCOMPLETE)
        assert_one_row_each(world)


def test_uncertain_creation_is_found_by_the_ids_of_its_jobs() -> None:
    world = BatchWorld(shape="anthropic", rates={"batch_lost_reply": 1.0})
    assert world.run_batch(JOBS).exit_code == exit_codes.COMPLETE
    assert_one_row_each(world)
    assert world.executed_more_than_once() == []


@pytest.mark.parametrize(("difference_s", "tells_time"), [(-50_000.0, True), (50_000.0, True), (-50_000.0, False)])
def test_clock_that_differs_from_the_provider_s_submits_nothing_twice(difference_s: float, tells_time: bool) -> None:
    world = BatchWorld(
        shape="anthropic", clock_difference_s=difference_s, tells_time=tells_time, rates={"batch_lost_reply": 1.0}
    )
    assert world.run_batch(JOBS, max_runs_s=1000).exit_code == exit_codes.COMPLETE
    assert_one_row_each(world)
    assert world.executed_more_than_once() == []


def test_clock_that_is_put_back_submits_nothing_twice() -> None:
    world = BatchWorld(shape="anthropic", rates={"batch_lost_reply": 1.0})
    world.run_batch(JOBS, detach=True)
    lines = world.journal()
    for line in lines:
        if "intend" in line:
            line["at"] += 50_000.0
    world.disk.names[BATCHES].data[:] = b"".join(json_bytes.dumps(line) + b"\n" for line in lines)
    world.now_s += 200
    assert world.run_batch(JOBS, max_runs_s=1000).exit_code == exit_codes.COMPLETE
    assert_one_row_each(world)
    assert world.executed_more_than_once() == []


def test_list_that_does_not_show_what_was_created_ends_the_run() -> None:
    world = BatchWorld(shape="anthropic", rates={"batch_lost_reply": 1.0})
    world.provider.message_batches._list = lambda query: json_response({"data": [], "has_more": False})  # type: ignore[method-assign]
    run = world.run_batch(JOBS)
    assert run.exit_code == exit_codes.STOPPED
    assert "it is not certain whether the provider has batch" in (run.reason or "")
    assert world.batches_left == MAX_UNANSWERED


def test_detached_run_with_an_uncertain_batch_names_both_commands() -> None:
    world = BatchWorld(shape="anthropic", rates={"batch_lost_reply": 1.0})
    run = world.run_batch(JOBS, detach=True)
    assert run.exit_code == exit_codes.STOPPED
    assert run.reason is not None
    assert "process batch adopt RESULTS" in run.reason
    assert "process batch assume-lost RESULTS" in run.reason
    world.now_s += 200
    assert world.run_batch(JOBS).exit_code == exit_codes.COMPLETE
    assert world.executed_more_than_once() == []


def test_at_the_time_to_stream_what_is_done_is_kept() -> None:
    world = BatchWorld(shape="anthropic")
    run = world.run_batch(JOBS, stream_at=1_800_000_000.0 + 50)
    assert (run.exit_code, run.items_read) == (exit_codes.COMPLETE, True)
    assert 5 <= len(world.rows()) <= 15
    assert world.failures() == []


@pytest.mark.parametrize(
    ("result", "kind", "code"),
    [
        ({"type": "expired"}, SubmitAgain, "batch_expired"),
        ({"type": "canceled"}, SubmitAgain, "batch_cancelled"),
        ({"type": "unknown"}, SubmitAgain, "batch_no_result"),
        (
            {"type": "errored", "error": {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}},
            SubmitAgain,
            "server_error",
        ),
        (
            {"type": "errored", "error": {"type": "error", "error": {"type": "invalid_request_error", "message": "x"}}},
            Failed,
            "rejected",
        ),
    ],
)
def test_result_of_a_job(result: Any, kind: type, code: str) -> None:
    found = verdict_on(result_line(json_bytes.dumps({"custom_id": "b-0", "result": result})), JOB)
    assert isinstance(found, kind)
    failure = found.failed.failure if isinstance(found, SubmitAgain) else found.failure  # type: ignore[union-attr]
    assert failure.code == code


def test_spent_credit_is_no_fault_of_the_job() -> None:
    result = errored("invalid_request_error", "Your credit balance is too low to access the Anthropic API.")
    line = result_line(json_bytes.dumps({"custom_id": "b-0", "result": result}))
    assert isinstance(verdict_on(line, JOB), AccountRefused)
