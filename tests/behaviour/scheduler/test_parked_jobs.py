"""Jobs whose failure may be their own fault or that of the run are parked until the requests of others show which."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from processor.core.errors import AccessDenied, RequestError, ServerError, StatusError
from processor.core.events import AttemptFinished, JobFinished, RequestEvent, RequestListener, Transport
from processor.core.models import JSON, Job, Reply, Result, Target
from processor.health.parked_jobs import MAX_PARKED_JOBS, MAX_PARKED_PER_CAUSE
from processor.retry.backoff import Backoff
from processor.retry.policy import RetryPolicy
from processor.scheduler import RunOptions
from tests.support.answers import (
    NOT_UNDERSTOOD,
    PERHAPS_THE_JOB,
    REFUSED,
    answering,
    for_model,
    only,
)
from tests.support.scheduler_world import ERRORS, FAST_PROVIDER, STATE, RunRecord, World, short_job
from tests.support.slow_cases import slow_except

A_FEW_EVERY_DAY = slow_except(PERHAPS_THE_JOB, "403", "html")

ONLY_MODEL_M = replace(FAST_PROVIDER, models=("m",), first_token_s=0.1, first_token_jitter=0.0)


def jobs(*numbers: int, **more: Any) -> list[JSON]:
    return [short_job(number, **more) for number in numbers]


def sent_ids(run: RunRecord) -> list[str]:
    return [custom_id for _, custom_id, _ in run.sent]


def failed_ids(world: World) -> set[str]:
    return {row["custom_id"] for row in world.failures()} if world.disk.contents(ERRORS) else set()


# ---------------------------------------------------------------- it is the job


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("concurrency", slow_except([1, 8, 100], 8))
def test_one_refused_job_fails_and_all_others_are_answered(kind: str, concurrency: int) -> None:
    world = World()
    wrap = answering(only("job-0", error=PERHAPS_THE_JOB[kind]))
    run = world.run(jobs(*range(150)), concurrency=concurrency, wrap_transport=wrap)
    assert (run.exit_code, len(world.rows())) == (1, 149)
    (row,) = world.failures()
    assert (row["custom_id"], row["attempts"], row["own_fault"]) == ("job-0", 1, True)


@pytest.mark.parametrize("kind", NOT_UNDERSTOOD)
def test_job_whose_responses_are_never_understood_is_tried_again_and_fails(kind: str) -> None:
    world = World()
    wrap = answering(only("job-0", error=PERHAPS_THE_JOB[kind]))
    run = world.run(jobs(*range(150)), wrap_transport=wrap, policy=RetryPolicy(max_attempts=3))
    assert (run.exit_code, len(world.rows())) == (1, 149)
    (row,) = world.failures()
    assert (row["custom_id"], row["attempts"], "own_fault" in row) == ("job-0", 3, False)


@pytest.mark.parametrize("kind", NOT_UNDERSTOOD)
def test_job_whose_first_response_is_not_understood_is_answered_later(kind: str) -> None:
    answers = iter([PERHAPS_THE_JOB[kind]()])
    world = World()
    wrap = answering(lambda job: next(answers, None) if job.custom_id == "job-5" else None)
    run = world.run(jobs(*range(40)), wrap_transport=wrap)
    assert (run.exit_code, len(world.rows())) == (0, 40)


@pytest.mark.parametrize("kind", A_FEW_EVERY_DAY)
def test_one_such_job_delays_the_others_by_less_than_five_seconds(kind: str) -> None:
    ordinary = World().run(jobs(*range(200)))
    last_before = max(event.at for event in ordinary.events_of(JobFinished))
    wrap = answering(only("job-0", error=PERHAPS_THE_JOB[kind]))
    run = World().run(jobs(*range(200)), wrap_transport=wrap)
    last = max(event.at for event in run.events_of(JobFinished) if event.result.custom_id != "job-0")
    assert last < last_before + 5


def test_success_that_was_sent_before_the_parked_job_proves_nothing() -> None:
    """The account may have been used up in between."""
    world = World()
    wrap = answering(only("job-39", error=PERHAPS_THE_JOB["403"]))
    run = world.run(jobs(*range(40)), concurrency=1, wrap_transport=wrap)
    assert (run.exit_code, len(world.rows()), failed_ids(world)) == (3, 39, set())
    assert run.reason == "the provider refused: flagged by moderation (job job-39)"


@pytest.mark.parametrize("kind", NOT_UNDERSTOOD)
def test_last_response_that_is_not_understood_is_tried_again_after_replies(kind: str) -> None:
    """A stream may break off once, and the run has no other job that could show it."""
    answers = iter([PERHAPS_THE_JOB[kind]()])
    world = World()
    wrap = answering(lambda job: next(answers, None) if job.custom_id == "job-39" else None)
    run = world.run(jobs(*range(40)), concurrency=1, wrap_transport=wrap)
    assert (run.exit_code, len(world.rows())) == (0, 40)


def test_success_of_another_model_proves_nothing() -> None:
    world = World(ONLY_MODEL_M)
    run = world.run(jobs(0, model="wrong") + jobs(*range(1, 40)))
    assert (run.exit_code, len(world.rows()), failed_ids(world)) == (3, 39, set())
    assert run.reason and run.reason.endswith("do not have access to it. (job job-0)")


def test_success_of_another_model_shows_that_the_server_can_be_understood() -> None:
    world = World()
    wrap = answering(only("job-0", error=PERHAPS_THE_JOB["html"]))
    run = world.run(
        jobs(0, model="other") + jobs(*range(1, 40)), wrap_transport=wrap, policy=RetryPolicy(max_attempts=1)
    )
    assert (run.exit_code, failed_ids(world)) == (1, {"job-0"})


# ---------------------------------------------------------------- it is the run


@pytest.mark.parametrize("kind", A_FEW_EVERY_DAY)
@pytest.mark.parametrize("concurrency", slow_except([1, 30, 1000], 30))
def test_server_that_answers_all_like_this_gets_twenty_requests_one_at_a_time(kind: str, concurrency: int) -> None:
    world = World()
    wrap = answering(lambda job: PERHAPS_THE_JOB[kind]())
    run = world.run(jobs(*range(1000)), concurrency=concurrency, wrap_transport=wrap)
    assert (run.exit_code, len(run.sent)) == (3, MAX_PARKED_PER_CAUSE)
    assert run.max_in_flight == 1
    assert run.reason and str(PERHAPS_THE_JOB[kind]()) in run.reason
    assert "(20 jobs: job-0, job-1, job-2 and 17 more)" in run.reason
    assert not world.rows() and world.disk.contents(ERRORS) is None


@pytest.mark.parametrize("kind", A_FEW_EVERY_DAY)
def test_slow_server_that_answers_all_like_this_gets_twenty_requests_and_those_in_flight(kind: str) -> None:
    """The canary's timeout has passed before anything is known."""
    wrap = answering(lambda job: PERHAPS_THE_JOB[kind](), within_s=5.0)
    run = World().run(jobs(*range(1000)), concurrency=30, wrap_transport=wrap)
    assert run.exit_code == 3
    assert len(run.sent) <= MAX_PARKED_PER_CAUSE + 30


@pytest.mark.parametrize("kind", A_FEW_EVERY_DAY)
def test_server_that_begins_to_answer_like_this_is_given_up_after_twenty(kind: str) -> None:
    """After 100 replies, e.g. because the account is used up or a proxy wants a login."""
    world = World()
    wrap = answering(lambda job: PERHAPS_THE_JOB[kind]() if int(job.custom_id[4:]) >= 100 else None)
    run = world.run(jobs(*range(300)), concurrency=8, wrap_transport=wrap)
    assert (run.exit_code, len(world.rows())) == (3, 100)
    assert len(run.sent) <= 100 + MAX_PARKED_PER_CAUSE + 8
    assert not failed_ids(world)


def test_model_that_is_given_up_leaves_the_others_alone() -> None:
    world = World()
    mixed = [short_job(number, model="m" if number % 3 else "gone") for number in range(300)]
    run = world.run(mixed, concurrency=8, wrap_transport=answering(for_model("gone", PERHAPS_THE_JOB["403"])))
    assert (run.exit_code, len(world.rows()), failed_ids(world)) == (3, 200, set())
    assert len(run.sent) <= 200 + MAX_PARKED_PER_CAUSE + 8
    assert run.reason and re.search(r"\(20 jobs: job-0, job-\d+, job-\d+ and 17 more\)$", run.reason)


def test_twenty_models_that_are_not_found_stop_the_run() -> None:
    run = World(ONLY_MODEL_M).run([short_job(number, model=f"model-{number}") for number in range(100)])
    assert (run.exit_code, len(run.sent)) == (3, MAX_PARKED_PER_CAUSE)
    assert run.reason and run.reason.startswith(
        "the provider does not know the models model-0, model-1, model-2 and 17 more: The model"
    )


def test_same_file_is_completed_after_the_model_is_corrected() -> None:
    nameless = [{"id": f"job-{number}", "prompt": "Hi"} for number in range(30)]
    world = World(ONLY_MODEL_M)
    assert world.run(nameless, model="typo").exit_code == 3
    again = world.run(nameless, model="m")
    assert (again.exit_code, again.possibly_billed, len(again.sent)) == (0, 0, 30)
    attempts = {row["custom_id"]: row["attempts"] for row in world.rows()}
    assert [attempts["job-0"], attempts["job-29"]] == [2, 1], "the request of the first run is counted"


# ---------------------------------------------------------------- nothing else is left to send


@pytest.mark.parametrize("kind", PERHAPS_THE_JOB)
def test_lone_job_is_left_without_a_row_and_named(kind: str) -> None:
    world = World()
    run = world.run(jobs(7), wrap_transport=answering(lambda job: PERHAPS_THE_JOB[kind]()))
    assert (run.exit_code, len(run.sent), failed_ids(world)) == (3, 1, set())
    assert run.reason and "job-7" in run.reason and str(PERHAPS_THE_JOB[kind]()) in run.reason


@pytest.mark.parametrize("kind", REFUSED)
def test_last_few_jobs_fail_where_an_earlier_run_has_replies_of_their_model(kind: str) -> None:
    world = World()
    wrap = answering(only("job-40", "job-41", error=PERHAPS_THE_JOB[kind]))
    assert world.run(jobs(*range(40))).exit_code == 0
    run = world.run(jobs(*range(42)), wrap_transport=wrap)
    assert (run.exit_code, failed_ids(world)) == (1, {"job-40", "job-41"})


def test_earlier_replies_of_another_model_decide_nothing() -> None:
    world = World()
    wrap = answering(only("job-40", error=PERHAPS_THE_JOB["403"]))
    assert world.run(jobs(*range(40), model="other")).exit_code == 0
    run = world.run(jobs(*range(40), model="other") + jobs(40), wrap_transport=wrap)
    assert (run.exit_code, failed_ids(world)) == (3, set())


def test_many_last_jobs_get_no_failed_rows() -> None:
    world = World()
    assert world.run(jobs(*range(5))).exit_code == 0
    wrap = answering(lambda job: PERHAPS_THE_JOB["403"]())
    run = world.run(jobs(*range(5 + MAX_PARKED_PER_CAUSE)), wrap_transport=wrap)
    assert (run.exit_code, failed_ids(world)) == (3, set())
    assert world.disk.contents(STATE) is not None


@pytest.mark.parametrize("kind", A_FEW_EVERY_DAY)
def test_three_reruns_of_one_command_make_progress(kind: str) -> None:
    """One job is refused, the last of its file; the provider answers only 20 others in each run."""
    world = World()
    done: list[int] = []
    for _ in range(3):
        wrap = answering(only("job-0", error=PERHAPS_THE_JOB[kind]))
        world.run(jobs(*range(60)), wrap_transport=wrap, options=RunOptions(limit=20 * (len(done) + 1)))
        done.append(len(world.rows()))
    assert done == [19, 39, 59]


def test_parked_jobs_of_the_last_run_are_sent_last() -> None:
    world = World()
    wrap = answering(only("job-0", "job-1", error=PERHAPS_THE_JOB["403"]))
    assert world.run(jobs(0, 1), wrap_transport=wrap).exit_code == 3
    run = world.run(jobs(*range(20)), concurrency=1, wrap_transport=wrap)
    assert sent_ids(run) == [f"job-{number}" for number in (*range(2, 20), 0, 1)]
    assert (run.exit_code, len(world.rows())) == (3, 18)
    run = world.run(jobs(*range(20)), wrap_transport=wrap)
    assert (run.exit_code, failed_ids(world), len(run.sent)) == (1, {"job-0", "job-1"}, 2)


def test_parked_job_is_not_in_flight() -> None:
    world = World(ONLY_MODEL_M)
    run = world.run(jobs(*range(10), model="wrong"))
    assert {(ended.outcome, ended.retry_delay_s) for ended in run.events_of(AttemptFinished)} == {("park", None)}
    assert not run.left_in_flight
    assert world.run(jobs(10)).possibly_billed == 0


# ---------------------------------------------------------------- refusals with a scope


def denied(scope: Any, status: int = 429, **more: Any) -> Callable[[], RequestError]:
    return lambda: AccessDenied("you exceeded your current quota", status=status, scope=scope, **more)


@pytest.mark.parametrize("status", slow_except([402, 403, 429], 402))
def test_exhausted_account_stops_the_run_at_once_also_after_successes(status: int) -> None:
    world = World()
    wrap = answering(lambda job: denied("endpoint", status)() if int(job.custom_id[4:]) >= 100 else None)
    run = world.run(jobs(*range(200)), concurrency=8, wrap_transport=wrap)
    assert (run.exit_code, len(world.rows()), failed_ids(world)) == (3, 100, set())
    assert len(run.sent) <= 108
    assert run.reason == "the provider refused: you exceeded your current quota"
    assert world.run(jobs(*range(200))).exit_code == 0, "what was refused is sent again"


def test_quota_of_one_model_leaves_the_others_alone_and_names_the_time_it_comes_back() -> None:
    world = World()
    mixed = [short_job(number, model="m" if number % 3 else "spent") for number in range(300)]
    wrap = answering(for_model("spent", denied("model", retry_after_s=4 * 3600.0)))
    run = world.run(mixed, concurrency=8, wrap_transport=wrap)
    assert (run.exit_code, len(world.rows()), failed_ids(world)) == (3, 200, set())
    assert run.reason and run.reason.startswith("the provider refused: you exceeded your current quota (until 20")
    assert len(run.sent) <= 200 + 8
    assert world.run(mixed).exit_code == 0


def test_wrong_key_stops_the_run_after_one_request() -> None:
    wrap = answering(lambda job: AccessDenied("invalid key", status=401))
    run = World().run(jobs(*range(50)), concurrency=8, wrap_transport=wrap)
    assert (run.exit_code, len(run.sent), run.reason) == (3, 1, "the provider refused: invalid key")


# ---------------------------------------------------------------- other properties


@pytest.mark.parametrize("ahead", [1, 4, 256])
def test_short_look_ahead_still_reaches_the_job_that_releases_the_parked_ones(ahead: int) -> None:
    world = World()
    bad = [f"job-{number}" for number in range(15)]
    wrap = answering(only(*bad, error=PERHAPS_THE_JOB["403"]))
    run = world.run(jobs(*range(30)), options=RunOptions(look_ahead=ahead), wrap_transport=wrap)
    assert (run.exit_code, failed_ids(world)) == (1, set(bad))


def test_run_does_not_stop_while_a_job_of_the_same_model_is_in_its_backoff() -> None:
    """The only other job fails at first; its second attempt succeeds and shows that the parked ones are at fault."""
    hiccup = iter([ServerError("hiccup", status=500)])

    def answer(job: Job) -> RequestError | None:
        return next(hiccup, None) if job.custom_id == "job-1" else PERHAPS_THE_JOB["403"]()

    world = World()
    run = world.run(jobs(0, 1, 2), wrap_transport=answering(answer))
    assert (run.exit_code, failed_ids(world)) == (1, {"job-0", "job-2"})
    assert [row["custom_id"] for row in world.rows()] == ["job-1"]


def test_server_errors_and_broken_connections_never_park() -> None:
    world = World()
    wrap = answering(only("job-0", error=lambda: StatusError("odd", status=503)))
    run = world.run(jobs(0), wrap_transport=wrap, policy=RetryPolicy(max_attempts=2))
    assert (run.exit_code, len(run.sent)) == (1, 2)


class RecordingPrinter:
    """Records the calls of the scheduler."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self, job: Job) -> None:
        self.calls.append(f"begin {job.custom_id}")

    def on_event(self, event: RequestEvent) -> None:
        pass

    def on_invalid(self, problem: str) -> None:
        raise AssertionError

    def end(self, result: Result) -> None:
        self.calls.append(f"end {result.custom_id}")


def test_printed_failure_of_a_parked_job_repeats_its_header() -> None:
    world, printer = World(), RecordingPrinter()
    run = world.run(
        jobs(0, 1, 2),
        concurrency=1,
        options=RunOptions(look_ahead=1),
        printer=printer,
        wrap_transport=answering(only("job-0", error=PERHAPS_THE_JOB["403"])),
    )
    assert run.exit_code == 1
    assert printer.calls[:3] == ["begin job-0", "begin job-1", "end job-1"]
    second_header = printer.calls.index("begin job-0", 1)
    assert printer.calls[second_header + 1] == "end job-0", "the header is followed by its own failure"
    assert sorted(printer.calls[3:]) == ["begin job-0", "begin job-2", "end job-0", "end job-2"]


def test_stop_while_jobs_are_parked_leaves_them_for_the_next_run() -> None:
    def slow(transport: Transport) -> Transport:
        async def send(job: Job, target: Target, on_event: RequestListener) -> Reply:
            await asyncio.sleep(5.0)
            return await transport(job, target, on_event)

        return send

    world = World()
    refused = answering(only("job-0", error=PERHAPS_THE_JOB["403"]))

    def stop(run: Any) -> None:
        asyncio.get_running_loop().call_at(3.0, lambda: run.stop("interrupted", exit_code=130, grace_s=0))

    run = world.run(jobs(0, 1, 2), wrap_transport=lambda transport: refused(slow(transport)), on_start=stop)
    assert (run.exit_code, failed_ids(world)) == (130, set())
    assert world.run(jobs(0, 1, 2)).exit_code == 0


# ---------------------------------------------------------------- more than can be held

IN_ORDER = RunOptions(look_ahead=1)


def many_models(good_every: int, jobs: int) -> list[JSON]:
    """Every so many jobs one of a model that answers; all others name a model of their own that does not exist."""
    return [
        short_job(number, model="m" if number % good_every == 0 else f"gone-{number // 2}") for number in range(jobs)
    ]


def gone(job: Job) -> RequestError | None:
    return PERHAPS_THE_JOB["model"]() if job.model != "m" else None


@pytest.mark.slow
def test_jobs_beyond_those_that_can_be_held_are_read_again_at_the_end_of_the_file() -> None:
    world, lines = World(), many_models(4, 1000)
    run = world.run(lines, concurrency=1, options=IN_ORDER, wrap_transport=answering(gone))
    assert (run.exit_code, len(world.rows()), failed_ids(world)) == (3, 250, set())
    again = world.run(lines)
    assert (again.exit_code, len(world.rows()), failed_ids(world)) == (0, 1000, set())
    attempts = [row["attempts"] for row in world.rows() if row["asked_model"] != "m"]
    assert min(attempts) >= 2, "the requests of the first run are counted"


def test_job_that_was_deferred_is_answered_in_the_same_run_once_it_can_be() -> None:
    sent: Counter[str] = Counter()

    def answer(job: Job) -> RequestError | None:
        sent[job.custom_id] += 1
        is_mended = job.custom_id == "late" and sent[job.custom_id] > 1
        return None if is_mended else gone(job)

    world = World()
    late = short_job(0, model="gone-late") | {"id": "late"}
    run = world.run([*many_models(4, 352), late], concurrency=1, options=IN_ORDER, wrap_transport=answering(answer))
    assert (run.exit_code, sent["late"]) == (3, 2)
    (row,) = [row for row in world.rows() if row["custom_id"] == "late"]
    assert row["attempts"] == 2


def test_equal_jobs_without_an_id_that_are_deferred_keep_their_names() -> None:
    world = World()
    twins = [{"model": "gone-twins", "prompt": "Hi"} for _ in range(3)]
    sent: Counter[str] = Counter()

    def twice(job: Job) -> RequestError | None:
        sent[job.custom_id] += 1
        return None if job.model == "gone-twins" and sent[job.custom_id] > 1 else gone(job)

    world.run([*many_models(4, 352), *twins], concurrency=1, options=IN_ORDER, wrap_transport=answering(twice))
    names = sorted(row["custom_id"] for row in world.rows() if row["asked_model"] == "gone-twins")
    assert len(names) == 3
    assert [name[32:] for name in names] == ["", "-2", "-3"]


@pytest.mark.slow
def test_jobs_that_can_be_read_only_once_get_failed_rows_beyond_those_that_can_be_held() -> None:
    world = World()
    run = world.run(
        many_models(4, 1000), concurrency=1, options=IN_ORDER, wrap_transport=answering(gone), read_once=True
    )
    assert (run.exit_code, len(world.rows())) == (3, 250)
    assert len(failed_ids(world)) == 750 - MAX_PARKED_JOBS
    assert not any("own_fault" in row for row in world.failures())
    assert world.run(many_models(4, 1000)).exit_code == 0


# ---------------------------------------------------------------- a model is closed


def test_job_in_its_back_off_does_not_sleep_it_out_when_its_model_is_closed() -> None:
    def answer(job: Job) -> RequestError | None:
        if job.custom_id == "job-0":
            return ServerError("hiccup", status=500)
        return denied("model")() if job.model == "m" else None

    policy = RetryPolicy(backoff=Backoff(min_s=1000.0, max_s=2000.0))
    world = World()
    run = world.run(jobs(0, 1) + jobs(2, model="other"), wrap_transport=answering(answer), policy=policy)
    assert (run.exit_code, len(world.rows()), failed_ids(world)) == (3, 1, set())
    assert run.took_s < 60


def test_every_parked_job_of_a_stopped_run_is_sent_last_by_the_next_one() -> None:
    world = World()
    refuse = answering(lambda job: PERHAPS_THE_JOB["html"]() if int(job.custom_id[4:]) < 20 else None)
    assert world.run(jobs(*range(60)), concurrency=1, wrap_transport=refuse).exit_code == 3
    run = world.run(jobs(*range(60)), concurrency=1)
    assert (run.exit_code, set(sent_ids(run)[40:])) == (0, {f"job-{number}" for number in range(20)})
