"""Runs through the batch APIs of Mistral and Together on a virtual clock: what differs from OpenAI's changes no row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from processor.batch.answers import result_line
from processor.batch.mistral_batches import MistralBatches
from processor.batch.sizes import BatchLimits
from processor.batch.together_batches import TogetherBatches
from processor.batch.verdicts import Failed, SubmitAgain, verdict_on
from processor.config.batch_presets import BatchShape
from processor.core import exit_codes
from processor.core.events import Notice
from processor.core.models import Job
from processor.protocols import RequestOptions
from processor.simulator.memory_api_client import MemoryApiClient
from tests.support.batch_world import BATCHES, ROOTS, BatchWorld
from tests.support.scheduler_world import short_job

JOBS = [short_job(number) for number in range(20)]
SMALL = BatchLimits(jobs=8, bytes=1_000_000)
JOB = Job(line=1, custom_id="a", fingerprint="00" * 16, path="/v1/chat/completions", model="m", body={"model": "m"})

pytestmark = pytest.mark.parametrize("shape", ["mistral", "together"])


def assert_one_row_each(world: BatchWorld) -> None:
    rows = [*world.rows(), *world.failures()]
    assert sorted(row["custom_id"] for row in rows) == sorted(job["id"] for job in JOBS)
    assert (world.journal(), world.left_files()) == ([], [])


def listed(world: BatchWorld) -> list[dict[str, Any]]:
    """The batches as the provider shows them, the newest first."""
    path = "/v1/batch/jobs" if world.shape == "mistral" else "/together/v1/batches"
    script = world.provider.batch_api.handle("GET", path, "", {}, b"", world.now_s)
    answer = orjson.loads(b"".join(step.data for step in script.steps))
    found: list[dict[str, Any]] = answer["data"] if world.shape == "mistral" else answer
    return found


def test_jobs_are_answered_and_the_files_are_deleted(shape: BatchShape) -> None:
    world = BatchWorld(shape=shape)
    run = world.run_batch(JOBS, limits=SMALL)
    assert (run.exit_code, run.reason) == (exit_codes.COMPLETE, None)
    assert_one_row_each(world)
    assert {row["served_by"] for row in world.rows()} == {"batch"}
    assert world.provider.batch_api.files.about == {}
    assert [len(batch.lines) for batch in world.provider.batch_api.batches.values()] == [8, 8, 4]
    assert not [event for event in run.events_of(Notice) if "looks whether" in event.text], "each answer is understood"


def test_lines_have_only_what_the_provider_documents(shape: BatchShape) -> None:
    world = BatchWorld(shape=shape)
    api = {"mistral": MistralBatches, "together": TogetherBatches}[shape](
        MemoryApiClient(world.provider), RequestOptions()
    )
    body = {"model": "m", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
    line = orjson.loads(api.line("b-0", replace(JOB, body=body)))
    model = {} if shape == "mistral" else {"model": "m"}
    assert line == {"custom_id": "b-0", "body": {**model, "messages": []}}


def test_batch_is_submitted_as_the_provider_documents(shape: BatchShape) -> None:
    world = BatchWorld(shape=shape)
    world.run_batch(JOBS, detach=True)
    (shown,) = listed(world)
    (name,) = {line["begin"] for line in world.journal() if "begin" in line}
    (file,) = world.provider.batch_api.files.about.values()
    assert (shown["endpoint"], file["filename"]) == ("/v1/chat/completions", f"{name}.jsonl")
    if shape == "mistral":
        assert (shown["status"], shown["model"], shown["metadata"]) == ("QUEUED", "m", {"processor_batch": name})
        assert shown["input_files"] == [file["id"]]
    else:
        assert (shown["status"], shown["input_file_id"]) == ("VALIDATING", file["id"])


def test_jobs_of_batches_that_expire_end_in_failed_rows(shape: BatchShape) -> None:
    world = BatchWorld(shape=shape, rates={"batch_expired": 1.0})
    run = world.run_batch(JOBS, limits=SMALL)
    assert run.exit_code == exit_codes.INCOMPLETE
    assert_one_row_each(world)
    assert {row["error"]["code"] for row in world.failures()} == {"batch_expired"}


def test_whole_failure_tells_the_provider_s_words(shape: BatchShape) -> None:
    world = BatchWorld(shape=shape, rates={"batch_failed": 1.0})
    world.run_batch(JOBS[:1], max_submissions=1)
    (row,) = world.failures()
    assert "The batch could not be processed." in row["error"]["message"]


def test_only_what_expired_is_submitted_again(shape: BatchShape) -> None:
    world = BatchWorld(shape=shape, rates={"batch_expired": 1.0})
    assert world.run_batch(JOBS, max_submissions=10).exit_code == exit_codes.COMPLETE
    assert [len(batch.lines) for batch in world.provider.batch_api.batches.values()] == [20, 10, 5, 2, 1]
    assert_one_row_each(world)
    assert world.executed_more_than_once() == []


def test_uncertain_creation_is_found_in_the_list(shape: BatchShape) -> None:
    world = BatchWorld(shape=shape, rates={"batch_lost_reply": 1.0})
    assert world.run_batch(JOBS, limits=SMALL).exit_code == exit_codes.COMPLETE
    assert len(world.provider.batch_api.batches) == 3
    assert_one_row_each(world)
    assert world.executed_more_than_once() == []


def test_uncertain_creation_is_found_behind_many_others(shape: BatchShape) -> None:
    world = BatchWorld(shape=shape, rates={"batch_lost_reply": 1.0})
    world.run_batch(JOBS, detach=True)
    journal = [line for line in world.journal() if "submit" not in line]
    assert len(journal) == len(world.journal()) - 1
    world.disk.names[BATCHES].data[:] = b"".join(orjson.dumps(line) + b"\n" for line in journal)
    for number in range(120):
        file = world.provider.batch_api.files.add(b"", "batch", world.now_s, f"other-{number}")
        post(world, file["id"])
    assert world.run_batch(JOBS).exit_code == exit_codes.COMPLETE
    assert_one_row_each(world)
    assert world.executed_more_than_once() == []


def test_uploaded_file_whose_id_is_not_known_is_deleted(shape: BatchShape) -> None:
    world = BatchWorld(shape=shape)
    world.run_batch(JOBS, detach=True)
    journal = [line for line in world.journal() if "submit" not in line and "upload" not in line]
    world.disk.names[BATCHES].data[:] = b"".join(orjson.dumps(line) + b"\n" for line in journal)
    world.provider.batch_api.batches.clear()
    assert world.run_batch(JOBS).exit_code == exit_codes.COMPLETE
    assert_one_row_each(world)
    assert world.provider.batch_api.files.about == {}


def test_at_the_time_to_stream_batches_are_cancelled_and_what_is_done_is_kept(shape: BatchShape) -> None:
    world = BatchWorld(shape=shape)
    run = world.run_batch(JOBS, stream_at=1_800_000_000.0 + 50)
    assert (run.exit_code, run.items_read) == (exit_codes.COMPLETE, True)
    assert len(world.rows()) == 9
    assert {batch.ended_as for batch in world.provider.batch_api.batches.values()} == {"cancelled"}


def test_results_that_are_gone_are_left_to_the_user(shape: BatchShape) -> None:
    world = BatchWorld(shape=shape)
    world.run_batch(JOBS, detach=True)
    world.now_s += 200
    listed(world)
    world.provider.batch_api.files.contents.clear()
    world.provider.batch_api.files.about.clear()
    run = world.run_batch(JOBS)
    assert run.exit_code == exit_codes.STOPPED
    assert "assume-lost" in (run.reason or "")


def test_progress_is_told_as_far_as_it_is_known(shape: BatchShape) -> None:
    world = BatchWorld(shape=shape)
    run = world.run_batch(JOBS)
    texts = [event.text for event in run.events_of(Notice)]
    ended = "success: 20 of 20 jobs done" if shape == "mistral" else "completed: 20 jobs"
    assert any(text.endswith(ended) for text in texts), texts


def test_line_with_an_error_instead_of_a_response(shape: BatchShape) -> None:
    refused = result_line(b'{"custom_id":"b-0","response":{"status_code":422,"body":{"detail":"no"}},"error":null}')
    assert isinstance(verdict_on(refused, JOB), Failed)
    told = verdict_on(result_line(b'{"custom_id":"b-0","error":"it broke"}'), JOB)
    assert isinstance(told, SubmitAgain)
    assert told.failed.failure.message == "it broke"


def post(world: BatchWorld, file_id: str) -> None:
    """Create a batch of another program."""
    wanted = {"input_files": [file_id], "model": "m"} if world.shape == "mistral" else {"input_file_id": file_id}
    path = "/v1/batch/jobs" if world.shape == "mistral" else f"{ROOTS['together']}/v1/batches"
    body = orjson.dumps({**wanted, "endpoint": "/v1/chat/completions"})
    world.provider.batch_api.handle("POST", path, "", {}, body, world.now_s)
