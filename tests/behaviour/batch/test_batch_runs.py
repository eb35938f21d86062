"""Runs through the batch API on a virtual clock: every job has one row, whatever the provider does with a batch."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import orjson
import pytest

from processor.batch.batch_run import BatchRun
from processor.batch.sizes import BatchLimits
from processor.config.batch_presets import BatchShape
from processor.core import exit_codes
from processor.core.events import JobFinished, Notice
from processor.cost.tariff import Rate, Rates, Tariff, TariffPeriod
from processor.scheduler import RunOptions
from tests.support.batch_world import BATCHES, BatchWorld
from tests.support.scheduler_world import short_job, to_jsonl

pytestmark = pytest.mark.sampled

JOBS = [short_job(number) for number in range(20)]
SMALL = BatchLimits(jobs=8, bytes=1_000_000)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["custom_id"] for row in rows)


def assert_one_row_each(world: BatchWorld, jobs: list[Any] = JOBS) -> None:
    assert ids([*world.rows(), *world.failures()]) == sorted(job["id"] for job in jobs)
    assert world.journal() == []
    assert world.left_files() == []


def test_row_is_that_of_a_streamed_run_and_says_that_a_batch_served_it() -> None:
    world = BatchWorld()
    run = world.run_batch([short_job(0, metadata={"a": 1}, max_tokens=5)])
    assert (run.exit_code, run.reason) == (exit_codes.COMPLETE, None)
    (row,) = world.rows()
    assert list(row) == [
        *("id", "custom_id", "response", "error", "usage", "usage_source", "attempts", "timing", "cost_usd", "line"),
        *("usage_estimated", "endpoint", "asked_model", "streamed", "served_by", "metadata"),
    ]
    assert row["served_by"] == "batch"
    assert (row["streamed"], row["attempts"], row["metadata"]) == (False, 1, {"a": 1})
    assert row["endpoint"] == "http://127.0.0.1/v1/chat/completions"
    assert row["response"]["body"]["choices"][0]["message"]["content"]
    assert row["timing"]["started_at"] == "2027-01-15T08:00:00.200Z"
    assert 100 <= row["timing"]["total_s"] <= 125
    assert row["timing"]["first_token_s"] is None


def test_jobs_are_cut_by_model_path_and_size() -> None:
    world = BatchWorld()
    jobs = [*JOBS, *(short_job(number, model="other") for number in range(20, 23))]
    jobs += [{"id": "e", "model": "m", "url": "/v1/embeddings", "input": "x", "body": {"input": "x", "model": "m"}}]
    assert world.run_batch(jobs, limits=SMALL).exit_code == exit_codes.COMPLETE
    assert_one_row_each(world, jobs)
    batches = world.provider.batch_api.batches.values()
    sizes = Counter((batch.endpoint, batch.model, len(batch.lines)) for batch in batches)
    chat = "/v1/chat/completions"
    assert sizes == {(chat, "m", 8): 2, (chat, "m", 4): 1, (chat, "other", 3): 1, ("/v1/embeddings", "m", 1): 1}


def test_provider_sees_neither_names_nor_metadata_nor_stream_options() -> None:
    world = BatchWorld()
    jobs = [
        {
            "custom_id": "a secret name",
            "url": "/v1/chat/completions",
            "metadata": "mine",
            "body": {
                "model": "m",
                "messages": [{"role": "user", "content": "hi"}],
                "stream": True,
                "stream_options": {"include_usage": True},
                "metadata": {"of": "the api"},
            },
        }
    ]
    assert world.run_batch(jobs).exit_code == exit_codes.COMPLETE
    (batch,) = world.provider.batch_api.batches.values()
    (line,) = batch.lines
    assert "secret" not in line.custom_id
    assert set(line.body) == {"model", "messages", "metadata"}
    assert world.rows()[0]["metadata"] == "mine"


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        ("batch_missing", {"batch_no_result"}),
        ("batch_odd", {"batch_no_result"}),
        ("batch_server_error", {"server_error"}),
        ("batch_refused", {"rejected"}),
        ("batch_failed", {"batch_failed"}),
        ("batch_all_failed", {"server_error"}),
    ],
)
@pytest.mark.parametrize("shape", ["openai", "mistral", "together"])
def test_fault_that_stays_ends_in_failed_rows(shape: BatchShape, fault: str, codes: set[str]) -> None:
    world = BatchWorld(shape=shape, rates={fault: 1.0})
    run = world.run_batch(JOBS, limits=SMALL)
    assert run.exit_code == exit_codes.INCOMPLETE
    assert_one_row_each(world)
    assert world.rows() == []
    assert {row["error"]["code"] for row in world.failures()} == codes
    attempts = {row["attempts"] for row in world.failures()}
    assert attempts == ({1} if fault == "batch_refused" else {3})


def test_only_what_expired_is_submitted_again() -> None:
    world = BatchWorld(rates={"batch_expired": 1.0})
    run = world.run_batch(JOBS, max_submissions=10)
    assert run.exit_code == exit_codes.COMPLETE
    assert [len(batch.lines) for batch in world.provider.batch_api.batches.values()] == [20, 10, 5, 2, 1]
    assert_one_row_each(world)
    assert world.executed_more_than_once() == []


def test_mixed_faults_leave_one_row_each() -> None:
    rates = {"batch_missing": 0.1, "batch_refused": 0.1, "batch_odd": 0.1, "batch_expired": 0.3, "batch_failed": 0.2}
    for seed in range(10):
        world = BatchWorld(seed=seed, rates=rates)
        run = world.run_batch(JOBS, limits=SMALL)
        assert run.exit_code == (exit_codes.INCOMPLETE if world.failures() else exit_codes.COMPLETE)
        assert_one_row_each(world)


def test_batches_wait_for_room_that_is_learned_from_refusals() -> None:
    world = BatchWorld(enqueued_tokens=300)
    run = world.run_batch(JOBS, limits=SMALL)
    assert run.exit_code == exit_codes.COMPLETE
    assert_one_row_each(world)
    assert world.executed_more_than_once() == []


def test_job_that_is_too_large_for_the_room_fails() -> None:
    world = BatchWorld(enqueued_tokens=1)
    run = world.run_batch(JOBS[:2])
    assert run.exit_code == exit_codes.INCOMPLETE
    assert {row["error"]["code"] for row in world.failures()} == {"too_large"}
    assert_one_row_each(world, JOBS[:2])


def test_detached_runs_submit_as_room_appears_and_collect() -> None:
    world = BatchWorld()
    run = world.run_batch(JOBS, limits=SMALL, detach=True, enqueued_tokens=170, output="out file.jsonl")
    assert run.exit_code == exit_codes.STOPPED
    assert run.reason == (
        "2 batches are with the provider, 4 jobs wait for room; the same command goes on, "
        "`process batch cancel 'out file.jsonl'` cancels"
    )
    again = world.run_batch(JOBS, limits=SMALL, detach=True, enqueued_tokens=170)
    assert len(world.provider.batch_api.batches) == 2, "nothing is submitted twice"
    assert again.exit_code == exit_codes.STOPPED
    world.now_s += 200
    assert world.run_batch(JOBS, limits=SMALL, detach=True, enqueued_tokens=170).exit_code == exit_codes.STOPPED
    world.now_s += 200
    assert world.run_batch(JOBS, limits=SMALL, detach=True, enqueued_tokens=170).exit_code == exit_codes.COMPLETE
    assert_one_row_each(world)
    assert world.executed_more_than_once() == []


def test_edit_or_limit_does_not_touch_jobs_in_an_open_batch() -> None:
    world = BatchWorld()
    world.run_batch(JOBS, detach=True)
    edited = [{**job, "prompt": "something else"} for job in JOBS]
    resend = RunOptions(stream=False, resend_changed=True, retry_failed=True, limit=5)
    run = world.run_batch(edited, detach=True, run=resend)
    assert run.exit_code == exit_codes.STOPPED
    assert len(world.provider.batch_api.batches) == 1
    world.now_s += 200
    world.run_batch(JOBS)
    assert_one_row_each(world)
    assert world.executed_more_than_once() == []


def test_finished_output_submits_nothing() -> None:
    world = BatchWorld()
    world.run_batch(JOBS)
    assert world.run_batch(JOBS).exit_code == exit_codes.COMPLETE
    assert len(world.provider.batch_api.batches) == 1


def test_jobs_that_a_batch_does_not_take_get_a_failed_row() -> None:
    world = BatchWorld()
    jobs = [*JOBS[:2], {"id": "mod", "model": "m", "url": "/v1/moderations", "prompt": "x"}]
    run = world.run_batch([*jobs, short_job(5, prompt="x" * 3000)], limits=BatchLimits(jobs=9, bytes=2000))
    assert run.exit_code == exit_codes.INCOMPLETE
    assert ids(world.failures()) == ["job-5", "mod"]
    assert {row["error"]["code"] for row in world.failures()} == {"not_in_batch"}
    assert all("own_fault" not in row for row in world.failures()), "a run without --batch sends them"


def test_lines_that_are_no_jobs_and_duplicates_have_their_rows() -> None:
    world = BatchWorld(rates={"batch_expired": 0.5}, seed=3)
    data = to_jsonl(JOBS) + b"no job\n" + to_jsonl(JOBS[:1])
    run = world.run_batch(data, max_submissions=10, limits=SMALL)
    assert run.exit_code == exit_codes.INCOMPLETE
    assert ids(world.rows()) == ids([{"custom_id": job["id"]} for job in JOBS])
    assert sorted(row["error"]["code"] for row in world.failures()) == ["duplicate_custom_id", "invalid_json"]


def test_price_is_the_share_of_the_batch_factor_and_unknown_without_one() -> None:
    rates = Rates(input=Rate(usd=Decimal(2)), output=Rate(usd=Decimal(4)))
    tariff = Tariff(periods=(TariffPeriod(rates=rates),))
    for factor, expected in ((0.5, (1 * 2 + 1 * 4) / 1e6 / 2), (None, None)):
        world = BatchWorld(tariff=tariff)
        world.run_batch(JOBS[:1], price_factor=factor)
        assert world.rows()[0]["cost_usd"] == (expected and pytest.approx(expected))


def test_files_at_the_provider_are_deleted_once_collected_unless_they_are_to_stay() -> None:
    for keeps in (False, True):
        world = BatchWorld()
        world.run_batch(JOBS, keep_remote_files=keeps)
        assert len(world.provider.batch_api.files.about) == (2 if keeps else 0)


def test_uncertain_creation_is_found_by_its_metadata() -> None:
    world = BatchWorld(rates={"batch_lost_reply": 1.0})
    assert world.run_batch(JOBS).exit_code == exit_codes.COMPLETE
    assert len(world.provider.batch_api.batches) == 1
    assert_one_row_each(world)


def test_stop_says_that_the_batches_go_on_and_the_next_run_collects_them() -> None:
    world = BatchWorld()

    def stop(run: BatchRun) -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(30.0, lambda: run.stop("interrupted (Ctrl-C)", exit_code=exit_codes.INTERRUPTED))

    run = world.run_batch(JOBS, on_start=stop)
    assert run.exit_code == exit_codes.INTERRUPTED
    assert run.reason is not None
    assert "1 batch is with the provider" in run.reason
    assert "process batch cancel" in run.reason
    assert run.took_s < 31
    assert world.run_batch(JOBS).exit_code == exit_codes.COMPLETE
    assert len(world.provider.batch_api.batches) == 1
    assert_one_row_each(world)


def test_stop_is_heeded_while_jobs_are_read() -> None:
    world = BatchWorld()
    run = world.run_batch(JOBS, on_start=lambda run: run.stop("stopped", exit_code=exit_codes.INTERRUPTED))
    assert run.exit_code == exit_codes.INTERRUPTED
    assert world.provider.batch_api.batches == {}
    assert (world.journal(), world.left_files()) == ([], [])


@pytest.mark.parametrize("at", [0.05, 0.12, 0.18, 30.0, 99.99])
def test_abort_at_any_step_leaves_nothing_to_be_sent_twice(at: float) -> None:
    world = BatchWorld()

    def abort(run: BatchRun) -> None:
        asyncio.get_running_loop().call_at(at, run.abort)

    aborted = world.run_batch(JOBS, on_start=abort)
    assert aborted.exit_code == exit_codes.INTERRUPTED
    tells_of_batch = "1 batch is " in (aborted.reason or "")  # being submitted, or with the provider
    assert tells_of_batch is bool(world.journal())
    assert world.left_files() == []
    assert world.run_batch(JOBS).exit_code == exit_codes.COMPLETE
    assert_one_row_each(world)
    assert world.executed_more_than_once() == []


def test_at_the_time_to_stream_batches_are_cancelled_and_what_is_done_is_kept() -> None:
    world = BatchWorld()
    run = world.run_batch(JOBS, stream_at=1_800_000_000.0 + 50)
    assert (run.exit_code, run.items_read) == (exit_codes.COMPLETE, True)
    assert run.took_s < 90
    assert len(world.rows()) == 9
    assert world.failures() == []
    assert [line for line in world.journal() if "again" not in line] == []
    assert {batch.ended_as for batch in world.provider.batch_api.batches.values()} == {"cancelled"}


def test_jobs_that_a_batch_does_not_take_are_left_to_be_streamed() -> None:
    world = BatchWorld()
    jobs = [*JOBS[:2], {"id": "mod", "model": "m", "url": "/v1/moderations", "prompt": "x"}]
    run = world.run_batch(jobs, stream_at=1_800_000_000.0 + 5000)
    assert run.items_read, "the rest is to be streamed"
    assert run.took_s < 200, "at once"
    assert (len(world.rows()), world.failures()) == (2, [])


def test_run_ends_at_its_time_and_leaves_the_batches_to_the_provider() -> None:
    world = BatchWorld()
    run = world.run_batch(JOBS, end_at=1_800_000_000.0 + 50)
    assert (run.exit_code, round(run.took_s)) == (exit_codes.STOPPED, 50)
    assert run.reason is not None
    assert run.reason.startswith("the time of --until has come; 1 batch is with the provider")
    assert world.run_batch(JOBS, end_at=1_800_000_000.0 + 5000).exit_code == exit_codes.COMPLETE
    assert_one_row_each(world)
    assert world.executed_more_than_once() == []


def test_batch_that_the_provider_has_forgotten_is_left_to_the_user() -> None:
    world = BatchWorld()
    world.run_batch(JOBS, detach=True)
    world.provider.batch_api.batches.clear()
    run = world.run_batch(JOBS)
    assert run.exit_code == exit_codes.STOPPED
    assert run.reason is not None
    (name,) = {line["begin"] for line in world.journal() if "begin" in line}
    assert f"process batch assume-lost RESULTS {name}" in run.reason
    assert world.rows() == []


def test_results_that_are_gone_are_left_to_the_user() -> None:
    world = BatchWorld()
    world.run_batch(JOBS, detach=True)
    world.now_s += 200
    api = world.provider.batch_api
    api.handle("GET", "/v1/batches", "", {}, b"", world.now_s)
    for name in list(api.files.about):
        api.files.delete(name)
    run = world.run_batch(JOBS)
    assert run.exit_code == exit_codes.STOPPED
    assert "assume-lost" in (run.reason or "")
    assert world.disk.contents(BATCHES)


def test_damaged_journal_is_refused_before_anything_is_sent() -> None:
    world = BatchWorld()
    world.run_batch(JOBS, detach=True)
    world.disk.names[BATCHES].data[:1] = b"x"
    run = world.run_batch(JOBS)
    assert run.exit_code == exit_codes.NOTHING_SENT
    assert len(world.provider.batch_api.batches) == 1


def test_events_tell_of_batches_and_of_each_row() -> None:
    world = BatchWorld()
    run = world.run_batch(JOBS)
    assert len(run.events_of(JobFinished)) == len(JOBS)
    texts = [event.text for event in run.events_of(Notice)]
    assert any("submitted: 20 jobs of m" in text for text in texts)
    assert any("completed: 20 of 20 jobs done" in text for text in texts)


def test_journal_is_readable_json_with_the_custom_ids() -> None:
    world = BatchWorld()
    world.run_batch(JOBS, detach=True)
    lines = [orjson.loads(line) for line in (world.disk.contents(BATCHES) or b"").splitlines()]
    assert [next(iter(line)) for line in lines] == ["begin", *["job"] * 20, "intend", "upload", "submit"]
    assert ids([line for line in lines if "job" in line]) == sorted(job["id"] for job in JOBS)
