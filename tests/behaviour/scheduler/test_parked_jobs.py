"""Jobs with an unknown model are parked until the first success shows whether the job or the run is wrong."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from processor.core.errors import ModelNotFound, ServerError, UrlNotFound
from processor.core.events import AttemptFinished, JobFinished, RequestEvent, RequestListener, Sent, Transport
from processor.core.models import JSON, Job, Reply, Result, Target
from processor.health.parked_jobs import MAX_DISTINCT_NOT_FOUND, MAX_PARKED_JOBS
from processor.scheduler import RunOptions
from tests.support.scheduler_world import ERRORS, FAST_PROVIDER, STATE, RunRecord, World, short_job

ONLY_MODEL_M = replace(FAST_PROVIDER, models=("m",), first_token_s=0.2, first_token_jitter=0.0)


def bad_jobs(*numbers: int, model: str = "wrong") -> list[JSON]:
    """Jobs with a model that the provider does not know."""
    return [short_job(number, model=model) for number in numbers]


def good_jobs(*numbers: int) -> list[JSON]:
    """Jobs with the model that the provider knows."""
    return [short_job(number) for number in numbers]


def sent_ids(run: RunRecord) -> list[str]:
    return [custom_id for _, custom_id, _ in run.sent]


def test_wrong_model_costs_one_request_and_leaves_no_failed_rows() -> None:
    world = World(ONLY_MODEL_M)
    run = world.run(bad_jobs(*range(1000)))
    assert run.exit_code == 3
    assert run.reason == (
        "the provider does not know the model wrong: The model `wrong` does not exist or you do not have access to it."
    )
    assert len(run.sent) == 1
    assert run.took_s < 1
    assert not world.rows() and world.disk.contents(ERRORS) is None


def test_same_file_is_completed_after_the_model_is_corrected() -> None:
    nameless = [{"id": f"job-{number}", "prompt": "Hi"} for number in range(30)]
    world = World(ONLY_MODEL_M)
    assert world.run(nameless, model="typo").exit_code == 3
    again = world.run(nameless, model="m")
    assert (again.exit_code, again.possibly_billed, len(again.sent)) == (0, 0, 30)
    attempts = {row["custom_id"]: row["attempts"] for row in world.rows()}
    assert attempts.pop("job-0") == 2, "the request of the first run is counted"
    assert set(attempts.values()) == {1}


def test_wrong_model_of_the_first_job_fails_only_that_job() -> None:
    world = World(ONLY_MODEL_M)
    run = world.run(bad_jobs(0) + good_jobs(*range(1, 40)))
    assert run.exit_code == 1
    assert len(run.sent) == len(world.rows()) + 1 == 40
    (row,) = world.failures()
    assert (row["custom_id"], row["error"]["code"], row["own_fault"]) == ("job-0", "rejected", True)
    assert row["response"]["body"]["error"]["code"] == "model_not_found"
    assert (row["attempts"], row["timing"]["total_s"] < 1) == (1, True)


def test_jobs_of_a_parked_model_are_sent_after_the_first_success() -> None:
    world = World(ONLY_MODEL_M)
    run = world.run(bad_jobs(*range(50)) + good_jobs(50) + bad_jobs(*range(51, 60)))
    assert run.exit_code == 1
    assert sent_ids(run)[:2] == ["job-0", "job-50"], "the job of another model is the next canary"
    assert len(run.sent) == 60
    assert len(world.failures()) == 59
    (first, *_) = run.events_of(JobFinished)
    assert first.result.custom_id == "job-50"


@pytest.mark.parametrize("ahead", [1, 4, 256])
def test_short_look_ahead_still_reaches_the_job_that_releases_the_parked_ones(ahead: int) -> None:
    world = World(ONLY_MODEL_M)
    run = world.run(bad_jobs(*range(30)) + good_jobs(30), options=RunOptions(look_ahead=ahead))
    assert run.exit_code == 1
    assert sent_ids(run)[:2] == ["job-0", "job-30"]


def test_run_stops_when_the_maximum_number_of_jobs_is_parked() -> None:
    world = World(ONLY_MODEL_M)
    run = world.run(bad_jobs(*range(MAX_PARKED_JOBS)) + good_jobs(MAX_PARKED_JOBS))
    assert (run.exit_code, len(run.sent)) == (3, 1)
    run = world.run(bad_jobs(*range(MAX_PARKED_JOBS - 1)) + good_jobs(MAX_PARKED_JOBS))
    assert (run.exit_code, len(world.rows())) == (1, 1)


def test_every_unknown_model_is_named_and_costs_one_request() -> None:
    world = World(ONLY_MODEL_M)
    models = ("one", "two", "one", "three", "two", "four", "one")
    run = world.run([short_job(number, model=model) for number, model in enumerate(models)])
    assert run.exit_code == 3
    assert run.reason and run.reason.startswith(
        "the provider does not know the models one, two, three and 1 more: The model"
    )
    assert len(run.sent) == 4


def test_unknown_url_costs_one_request() -> None:
    def wrap_transport(transport: Transport) -> Transport:
        async def without_chat(job: Job, target: Target, on_event: RequestListener) -> Reply:
            if job.path == "/v1/completions":
                return await transport(job, target, on_event)
            on_event(Sent(asyncio.get_running_loop().time()))
            await asyncio.sleep(0.1)
            raise UrlNotFound("HTTP 404 Not Found", status=404)

        return without_chat

    world = World(FAST_PROVIDER)
    run = world.run(good_jobs(*range(100)), wrap_transport=wrap_transport)
    assert (run.exit_code, len(run.sent), world.failures()) == (3, 1, [])
    assert run.reason == "there is nothing at /v1/chat/completions: HTTP 404 Not Found; is --base-url right?"
    run = world.run([*good_jobs(*range(3)), short_job(3, url="/v1/completions")], wrap_transport=wrap_transport)
    assert (run.exit_code, len(world.rows()), len(world.failures())) == (1, 1, 3)


def test_run_stops_after_twenty_unknown_models() -> None:
    run = World(ONLY_MODEL_M).run([short_job(number, model=f"model-{number}") for number in range(100)])
    assert (run.exit_code, len(run.sent)) == (3, MAX_DISTINCT_NOT_FOUND)


class RecordingPrinter:
    """Records the calls of the scheduler."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self, job: Job) -> None:
        self.calls.append(f"begin {job.custom_id}")

    def on_event(self, event: RequestEvent) -> None:
        pass

    def end(self, result: Result) -> None:
        self.calls.append(f"end {result.custom_id}")


def test_printed_failure_of_a_parked_job_repeats_its_header() -> None:
    world, printer = World(ONLY_MODEL_M), RecordingPrinter()
    run = world.run(
        bad_jobs(0) + good_jobs(1, 2),
        concurrency=1,
        options=RunOptions(look_ahead=1),
        printer=printer,
    )
    assert run.exit_code == 1
    assert printer.calls[:3] == ["begin job-0", "begin job-1", "end job-1"]
    second_header = printer.calls.index("begin job-0", 1)
    assert printer.calls[second_header + 1] == "end job-0", "the header is followed by its own failure"
    assert sorted(printer.calls[3:]) == ["begin job-0", "begin job-2", "end job-0", "end job-2"]


def test_parked_job_is_not_in_flight() -> None:
    world = World(ONLY_MODEL_M)
    run = world.run(bad_jobs(*range(10)))
    (ended,) = run.events_of(AttemptFinished)
    assert (ended.outcome, ended.retry_delay_s) == ("park", None)
    assert not run.left_in_flight
    assert world.run(good_jobs(10)).possibly_billed == 0


def test_run_does_not_stop_while_a_job_of_another_model_is_in_its_backoff() -> None:
    """The only job of another model fails at first; its second attempt succeeds and releases the parked jobs."""
    failures = iter([ServerError("hiccup", status=500)])

    def wrap_transport(transport: Transport) -> Transport:
        async def failing_once(job: Job, target: Target, on_event: RequestListener) -> Reply:
            if job.model == "m":
                for failure in failures:
                    raise failure
            return await transport(job, target, on_event)

        return failing_once

    world = World(ONLY_MODEL_M)
    run = world.run(bad_jobs(0) + good_jobs(1) + bad_jobs(2), wrap_transport=wrap_transport)
    assert run.exit_code == 1
    assert [row["custom_id"] for row in world.rows()] == ["job-1"]
    assert len(world.failures()) == 2


def test_requests_in_flight_when_a_model_is_parked_are_parked_as_well() -> None:
    """The response to the canary takes longer than its timeout, so that other requests have followed."""
    world = World(replace(ONLY_MODEL_M, first_token_s=0.0))

    def wrap_transport(transport: Transport) -> Transport:
        async def slow(job: Job, target: Target, on_event: RequestListener) -> Reply:
            try:
                return await transport(job, target, on_event)
            except ModelNotFound:
                await asyncio.sleep(5.0)
                raise

        return slow

    run = world.run(bad_jobs(*range(100)), concurrency=8, wrap_transport=wrap_transport)
    assert run.exit_code == 3
    assert 1 <= len(run.sent) <= 8
    assert not world.failures()


def test_few_remaining_jobs_of_a_file_with_replies_get_failed_rows() -> None:
    """Otherwise a file whose run was killed before it wrote these rows could never be completed."""
    world = World(ONLY_MODEL_M)
    assert world.run(good_jobs(*range(50))).exit_code == 0
    run = world.run(good_jobs(*range(50)) + bad_jobs(50, 51, 52))
    assert (run.exit_code, len(world.failures())) == (1, 3)


def test_many_remaining_jobs_of_a_file_with_replies_get_no_failed_rows() -> None:
    world = World(ONLY_MODEL_M)
    assert world.run(good_jobs(*range(5))).exit_code == 0
    run = world.run(good_jobs(*range(5)) + bad_jobs(*range(5, 5 + MAX_DISTINCT_NOT_FOUND)))
    assert (run.exit_code, len(run.sent), world.failures()) == (3, 1, [])
    assert world.disk.contents(STATE) is not None
