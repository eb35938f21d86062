"""A model that the provider does not know: one job's mistake, or the run's? The first success tells."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from processor.core.errors import ModelNotFound, ServerError, UrlNotFound
from processor.core.events import AttemptFinished, JobFinished, RequestEvent, RequestListener, Sent, Transport
from processor.core.models import JSON, Job, Reply, Result, Target
from processor.health.parked_jobs import MAX_DISTINCT_NOT_FOUND, MAX_PARKED_JOBS
from processor.scheduler import RunOptions
from tests.support.scheduler_world import ERRORS, QUICK, STATE, Ran, World, ask

KNOWS_M = replace(QUICK, models=("m",), first_token_s=0.2, first_token_jitter=0.0)


def wrong(*numbers: int, model: str = "wrong") -> list[JSON]:
    return [ask(number, model=model) for number in numbers]


def right(*numbers: int) -> list[JSON]:
    return [ask(number) for number in numbers]


def names(ran: Ran) -> list[str]:
    return [custom_id for _, custom_id, _ in ran.sent]


def test_a_wrong_model_costs_one_request_and_leaves_no_failed_rows() -> None:
    world = World(KNOWS_M)
    ran = world.run(wrong(*range(1000)))
    assert ran.exit_code == 3
    assert ran.reason == (
        "the provider does not know the model wrong: The model `wrong` does not exist or you do not have access to it."
    )
    assert len(ran.sent) == 1
    assert ran.took_s < 1
    assert not world.rows() and world.platter.contents(ERRORS) is None


def test_with_the_model_mended_the_same_file_goes_through() -> None:
    nameless = [{"id": f"job-{number}", "prompt": "Hi"} for number in range(30)]
    world = World(KNOWS_M)
    assert world.run(nameless, model="typo").exit_code == 3
    again = world.run(nameless, model="m")
    assert (again.exit_code, again.maybe_billed, len(again.sent)) == (0, 0, 30)
    attempts = {row["custom_id"]: row["attempts"] for row in world.rows()}
    assert attempts.pop("job-0") == 2, "the one that went ahead is remembered"
    assert set(attempts.values()) == {1}


def test_the_first_jobs_mistake_is_its_own_where_the_others_have_none() -> None:
    world = World(KNOWS_M)
    ran = world.run(wrong(0) + right(*range(1, 40)))
    assert ran.exit_code == 1
    assert len(ran.sent) == len(world.rows()) + 1 == 40
    (row,) = world.failures()
    assert (row["custom_id"], row["error"]["code"], row["own_fault"]) == ("job-0", "rejected", True)
    assert row["response"]["body"]["error"]["code"] == "model_not_found"
    assert (row["attempts"], row["timing"]["total_s"] < 1) == (1, True)


def test_jobs_of_a_model_in_doubt_wait_unsent_and_go_once_anything_has_succeeded() -> None:
    world = World(KNOWS_M)
    ran = world.run(wrong(*range(50)) + right(50) + wrong(*range(51, 60)))
    assert ran.exit_code == 1
    assert names(ran)[:2] == ["job-0", "job-50"], "the one that asks for something else goes as the next scout"
    assert len(ran.sent) == 60
    assert len(world.failures()) == 59
    (first, *_) = ran.said(JobFinished)
    assert first.result.custom_id == "job-50"


@pytest.mark.parametrize("ahead", [1, 4, 256])
def test_a_short_look_ahead_does_not_hide_the_job_that_ends_the_doubt(ahead: int) -> None:
    world = World(KNOWS_M)
    ran = world.run(wrong(*range(30)) + right(30), options=RunOptions(look_ahead=ahead))
    assert ran.exit_code == 1
    assert names(ran)[:2] == ["job-0", "job-30"]


def test_only_so_many_wait_in_doubt_and_then_the_run_stops() -> None:
    world = World(KNOWS_M)
    ran = world.run(wrong(*range(MAX_PARKED_JOBS)) + right(MAX_PARKED_JOBS))
    assert (ran.exit_code, len(ran.sent)) == (3, 1)
    ran = world.run(wrong(*range(MAX_PARKED_JOBS - 1)) + right(MAX_PARKED_JOBS))
    assert (ran.exit_code, len(world.rows())) == (1, 1)


def test_every_wrong_model_is_named_and_costs_one_request() -> None:
    world = World(KNOWS_M)
    models = ("one", "two", "one", "three", "two", "four", "one")
    ran = world.run([ask(number, model=model) for number, model in enumerate(models)])
    assert ran.exit_code == 3
    assert ran.reason and ran.reason.startswith(
        "the provider does not know the models one, two, three and 1 more: The model"
    )
    assert len(ran.sent) == 4


def test_an_address_where_there_is_nothing_costs_one_request_too() -> None:
    def through(stream: Transport) -> Transport:
        async def elsewhere(job: Job, target: Target, tell: RequestListener) -> Reply:
            if job.path == "/v1/completions":
                return await stream(job, target, tell)
            tell(Sent(asyncio.get_running_loop().time()))
            await asyncio.sleep(0.1)
            raise UrlNotFound("HTTP 404 Not Found", status=404)

        return elsewhere

    world = World(QUICK)
    ran = world.run(right(*range(100)), through=through)
    assert (ran.exit_code, len(ran.sent), world.failures()) == (3, 1, [])
    assert ran.reason == "there is nothing at /v1/chat/completions: HTTP 404 Not Found; is --base-url right?"
    ran = world.run([*right(*range(3)), ask(3, url="/v1/completions")], through=through)
    assert (ran.exit_code, len(world.rows()), len(world.failures())) == (1, 1, 3)


def test_models_without_end_are_not_tried_without_end() -> None:
    ran = World(KNOWS_M).run([ask(number, model=f"model-{number}") for number in range(100)])
    assert (ran.exit_code, len(ran.sent)) == (3, MAX_DISTINCT_NOT_FOUND)


class Heard:
    """An echo that only listens."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self, job: Job) -> None:
        self.said.append(f"begin {job.custom_id}")

    def tell(self, signal: RequestEvent) -> None:
        pass

    def end(self, result: Result) -> None:
        self.said.append(f"end {result.custom_id}")


def test_where_replies_are_echoed_a_late_failure_is_told_from_them() -> None:
    world, echo = World(KNOWS_M), Heard()
    ran = world.run(wrong(0) + right(1, 2), concurrency=1, options=RunOptions(look_ahead=1), printer=echo)
    assert ran.exit_code == 1
    assert echo.said[:3] == ["begin job-0", "begin job-1", "end job-1"]
    late = echo.said.index("begin job-0", 1)
    assert echo.said[late + 1] == "end job-0", "in one piece, whoever else is at it"
    assert sorted(echo.said[3:]) == ["begin job-0", "begin job-2", "end job-0", "end job-2"]


def test_what_waits_in_doubt_is_not_under_way() -> None:
    world = World(KNOWS_M)
    ran = world.run(wrong(*range(10)))
    (ended,) = ran.said(AttemptFinished)
    assert (ended.outcome, ended.retry_delay_s) == ("park", None)
    assert not ran.left_in_flight
    assert world.run(right(10)).maybe_billed == 0


def test_a_backoff_may_end_the_doubt_too() -> None:
    """The only job of another model fails at first: while it waits for its next attempt the run does not give up."""
    failures = iter([ServerError("hiccup", status=500)])

    def through(stream: Transport) -> Transport:
        async def once_broken(job: Job, target: Target, tell: RequestListener) -> Reply:
            if job.model == "m":
                for failure in failures:
                    raise failure
            return await stream(job, target, tell)

        return once_broken

    world = World(KNOWS_M)
    ran = world.run(wrong(0) + right(1) + wrong(2), through=through)
    assert ran.exit_code == 1
    assert [row["custom_id"] for row in world.rows()] == ["job-1"]
    assert len(world.failures()) == 2


def test_requests_under_way_when_doubt_comes_up_fall_into_it_too() -> None:
    """A slow server: after two seconds the others have followed."""
    world = World(replace(KNOWS_M, first_token_s=0.0))

    def through(stream: Transport) -> Transport:
        async def slow(job: Job, target: Target, tell: RequestListener) -> Reply:
            try:
                return await stream(job, target, tell)
            except ModelNotFound:
                await asyncio.sleep(5.0)
                raise

        return slow

    ran = world.run(wrong(*range(100)), concurrency=8, through=through)
    assert ran.exit_code == 3
    assert 1 <= len(ran.sent) <= 8
    assert not world.failures()


def test_what_few_jobs_are_left_of_an_answered_file_have_failed_rows_at_last() -> None:
    """Else a run that was killed before it wrote them could never come to an end."""
    world = World(KNOWS_M)
    assert world.run(right(*range(50))).exit_code == 0
    ran = world.run(right(*range(50)) + wrong(50, 51, 52))
    assert (ran.exit_code, len(world.failures())) == (1, 3)


def test_but_many_are_not_given_up_for_a_mistyped_model() -> None:
    world = World(KNOWS_M)
    assert world.run(right(*range(5))).exit_code == 0
    ran = world.run(right(*range(5)) + wrong(*range(5, 5 + MAX_DISTINCT_NOT_FOUND)))
    assert (ran.exit_code, len(ran.sent), world.failures()) == (3, 1, [])
    assert world.platter.contents(STATE) is not None
