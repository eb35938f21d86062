"""The whole run, in memory: every job gets its row, whatever the lines and the provider are like."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from processor.core.errors import ConnectionLost
from processor.core.events import JobFinished, JobSkipped, RequestEvent, RequestListener, Sent, Transport
from processor.core.models import JSON, Job, Reply, Result, Target
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.retry.policy import RetryPolicy
from processor.scheduler import RunOptions, Scheduler
from processor.simulator.faults import Faults
from processor.simulator.settings import INSTANT
from tests.support.scheduler_world import ERRORS, OUT, QUICK, World, ask, kill_at, lines

KEYS = ["id", "custom_id", "response", "error", "usage", "usage_source", "attempts", "timing", "cost_usd", "line"]


def by_id(rows: list[JSON]) -> dict[str, JSON]:
    found = {row["custom_id"]: row for row in rows}
    assert len(found) == len(rows), "one job stands twice"
    return found


def test_every_job_has_its_reply_and_nothing_else_is_written() -> None:
    world = World()
    ran = world.run([ask(number, metadata={"n": number}) for number in range(30)])
    assert (ran.exit_code, ran.reason) == (0, None)
    rows = by_id(world.rows())
    assert set(rows) == {f"job-{number}" for number in range(30)}
    for row in rows.values():
        assert list(row) == [*KEYS, "usage_estimated", "metadata"]
        request = {"model": "m", "messages": [{"role": "user", "content": f"Question {row['metadata']['n']}?"}]}
        assert row["response"]["body"] == world.provider.expected_body("/v1/chat/completions", request)
        assert row["line"] == row["metadata"]["n"] + 1
        assert (row["attempts"], row["usage_source"], row["error"]) == (1, "reported", None)
    assert world.platter.contents(ERRORS) is None
    assert world.provider.billing.requests == 30


def test_one_at_a_time_the_rows_stand_in_the_order_of_the_lines() -> None:
    world = World()
    world.run([ask(number) for number in range(10)], concurrency=1)
    assert [row["line"] for row in world.rows()] == list(range(1, 11))


def test_the_same_command_again_sends_nothing_and_changes_nothing() -> None:
    world, jobs = World(), [ask(number) for number in range(10)]
    world.run(jobs)
    before = world.platter.contents(OUT)
    again = world.run(jobs)
    assert (again.exit_code, again.sent) == (0, [])
    assert world.platter.contents(OUT) == before
    assert [event.reason for event in again.said(JobSkipped)] == ["done"] * 10


def test_lines_that_are_no_jobs_become_failed_rows_and_the_rest_is_answered() -> None:
    world = World()
    bad = [b"{broken", b"[1, 2]", b'{"id": "x", "model": "m"}', b'{"model": "m", "prompt": "\xff"}', b"x" * 3000]
    jobs = b"\xef\xbb\xbf" + lines([ask(1)]) + b"\n\r\n" + b"\r\n".join(bad) + b"\n" + lines([ask(2)])
    ran = world.run(jobs, max_line_bytes=2000)
    assert ran.exit_code == 1
    assert set(by_id(world.rows())) == {"job-1", "job-2"}
    failed = {row["line"]: row for row in world.failures()}
    codes = {4: "invalid_json", 5: "not_an_object", 6: "invalid_job", 7: "not_utf8", 8: "line_too_long"}
    assert {line: row["error"]["code"] for line, row in failed.items()} == codes
    for line, row in failed.items():
        assert row["error"]["message"].startswith(f"jobs.jsonl, line {line}: ")
        assert (row["timing"], row["response"], row["attempts"]) == (None, None, 0)
    assert failed[6]["custom_id"] == "x"


def test_of_two_jobs_with_one_name_the_first_is_answered_and_the_second_fails() -> None:
    world = World()
    ran = world.run([ask(1), {**ask(1), "prompt": "Another?"}])
    assert ran.exit_code == 1
    (row,) = world.rows()
    (failed,) = world.failures()
    assert (row["line"], failed["line"], failed["error"]["code"]) == (1, 2, "duplicate_custom_id")


def test_unnamed_twins_stay_two_jobs_and_are_done_once_each() -> None:
    world, twin = World(), {"model": "m", "prompt": "Say something."}
    world.run([twin, twin, twin])
    names = {row["custom_id"] for row in world.rows()}
    (fingerprint,) = {row["id"] for row in world.rows()}
    assert names == {fingerprint, f"{fingerprint}-2", f"{fingerprint}-3"}
    assert world.run([twin, ask(1), twin, twin]).exit_code == 0
    assert world.provider.billing.requests == 4


@pytest.mark.parametrize("resend", [False, True])
def test_a_job_edited_since_keeps_its_reply_or_gets_a_new_one(resend: bool) -> None:
    world = World()
    world.run([ask(1), ask(2)])
    old = by_id(world.rows())["job-1"]
    ran = world.run([{**ask(1), "prompt": "Edited?"}, ask(2)], options=RunOptions(resend_changed=resend))
    assert ran.exit_code == 0
    row = by_id(world.rows())["job-1"]
    assert (row == old) is not resend
    assert len(ran.sent) == resend
    if not resend:
        assert [event.custom_id for event in ran.said(JobSkipped) if event.reason == "changed"] == ["job-1"]


def test_a_jobs_own_fault_is_tried_again_only_when_asked() -> None:
    world = World(replace(QUICK, models=("m",)))
    jobs = [ask(1), ask(2, model="unknown")]
    assert world.run(jobs).exit_code == 1
    (failed,) = world.failures()
    assert (failed["error"]["code"], failed["own_fault"]) == ("rejected", True)
    assert failed["response"]["status_code"] == 404
    assert failed["response"]["body"]["error"]["code"] == "model_not_found"
    assert (ran := world.run(jobs)).exit_code == 1
    assert not ran.sent
    assert len(world.run(jobs, options=RunOptions(retry_failed=True)).sent) == 1
    assert len(world.failures()) == 1


def test_its_own_fault_is_forgotten_when_the_job_is_mended() -> None:
    world = World()
    assert world.run([ask(1, n="many")]).exit_code == 1
    assert world.run([ask(1)]).exit_code == 0
    assert world.platter.contents(ERRORS) is None


def test_a_failed_job_is_tried_again_by_the_next_run() -> None:
    world = World(replace(QUICK, faults=Faults({"error_500": 1.0})))
    assert world.run([ask(1), ask(2)], policy=RetryPolicy(max_attempts=2)).exit_code == 1
    world.provider.settings = replace(world.provider.settings, faults=Faults())
    assert world.run([ask(1), ask(2)]).exit_code == 0
    assert {row["attempts"] for row in world.rows()} == {3}
    assert world.platter.contents(ERRORS) is None


def test_a_job_that_fails_too_often_is_a_failed_row_that_says_so() -> None:
    world = World(replace(QUICK, faults=Faults({"cut": 1.0})))
    ran = world.run([ask(1)])
    assert ran.exit_code == 1
    (row,) = world.failures()
    assert row["error"]["code"] == "stream_truncated"
    assert "the last of 6 failed attempts" in row["error"]["message"]
    assert (row["attempts"], row["response"], len(ran.sent)) == (6, None, 6)


def test_a_job_larger_than_a_minutes_tokens_fails_at_once_and_holds_nobody_up() -> None:
    world = World()
    limits = LimitSettings(default=RateLimits(tpm=1000))
    ran = world.run([ask(1, max_tokens=2000), ask(2, max_tokens=50)], limits=limits)
    assert ran.exit_code == 1
    (row,) = world.failures()
    assert (row["error"]["code"], row["attempts"], row["own_fault"]) == ("too_large", 0, True)
    assert [custom_id for _, custom_id, _ in ran.sent] == ["job-2"]
    assert ran.took_s < 5


def test_only_the_first_jobs_are_done_within_a_limit() -> None:
    world, jobs = World(), [ask(number) for number in range(10)]
    assert world.run(jobs, options=RunOptions(limit=4)).exit_code == 0
    assert set(by_id(world.rows())) == {f"job-{number}" for number in range(4)}
    assert world.run(jobs).exit_code == 0
    assert world.provider.billing.requests == 10


@pytest.mark.parametrize("jobs", [b"", b"\n\n", b"{broken\n"])
def test_a_file_without_a_job_ends_with_exit_2(jobs: bytes) -> None:
    ran = World().run(jobs)
    assert ran.exit_code == 2
    assert ran.reason and ran.reason.startswith("jobs.jsonl holds no job")


class _Replaced:
    """A connection from the pool that turns out dead, now and then."""

    def __init__(self, stream: Transport, deaths: int) -> None:
        self._stream = stream
        self._left = deaths

    async def __call__(self, job: Job, target: Target, tell: RequestListener) -> Reply:
        if self._left:
            self._left -= 1
            tell(Sent(0.0))
            raise ConnectionLost("the server hung up", reused=True)
        return await self._stream(job, target, tell)


def test_a_dead_pooled_connection_is_replaced_at_once_and_beside_the_count() -> None:
    world = World()
    ran = world.run([ask(1)], policy=RetryPolicy(max_attempts=1), through=lambda stream: _Replaced(stream, 1))
    assert ran.exit_code == 0
    assert world.rows()[0]["attempts"] == 2, "the first may have been billed"
    assert ran.took_s < 2


def test_a_second_dead_connection_counts_as_a_failure() -> None:
    world = World()
    ran = world.run([ask(1)], policy=RetryPolicy(max_attempts=1), through=lambda stream: _Replaced(stream, 2))
    assert ran.exit_code == 1
    assert world.failures()[0]["error"]["code"] == "connection_lost"


def test_a_reply_without_usage_carries_the_computed_one() -> None:
    world = World(replace(QUICK, faults=Faults({"no_usage": 1.0})))
    world.run([ask(1)])
    (row,) = world.rows()
    assert row["usage_source"] == "computed"
    assert row["response"]["body"]["usage"] == row["usage"]


def test_no_more_jobs_are_read_than_may_wait() -> None:
    world = World(INSTANT)
    limits = LimitSettings(default=RateLimits(rpm=60))
    ran = world.run((ask(n) for n in range(100)), options=RunOptions(look_ahead=5), limits=limits, during=kill_at(20.5))
    assert 15 < len(world.rows()) < 25
    assert ran.read - len(world.rows()) <= 5 + 1, "one more has been read, and waits to be let in"


class _Echo:
    """Keeps what a person would see."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def begin(self, job: Job) -> None:
        self.seen.append(f"begin {job.custom_id}")

    def tell(self, signal: RequestEvent) -> None:
        self.seen.append(type(signal).__name__)

    def end(self, result: Result) -> None:
        self.seen.append(f"end {result.custom_id}")


def test_replies_are_shown_live_where_they_are_echoed_and_a_second_attempt_does_not_begin_anew() -> None:
    world, echo = World(replace(QUICK, faults=Faults({"error_500": 0.5}), seed=2)), _Echo()
    world.run([ask(number) for number in range(4)], concurrency=1, printer=echo)
    assert sum(said.startswith("begin") for said in echo.seen) == 4
    assert sum(said.startswith("end") for said in echo.seen) == 4
    assert echo.seen.count("Sent") > 4
    assert echo.seen.count("FirstToken") == 4


def test_a_run_can_be_asked_what_it_is_doing() -> None:
    world, answers = World(QUICK), []

    def during(run: Scheduler) -> None:
        def look() -> None:
            answers.append((len(run.in_flight), run.limiter_snapshots[0].in_flight, run.is_stopping))

        asyncio.get_running_loop().call_at(1.0, look)

    world.run([ask(number) for number in range(50)], concurrency=4, during=during)
    assert answers == [(4, 4, False)]


def test_what_is_done_in_a_large_file_is_passed_over_and_counted() -> None:
    world, jobs = World(), [ask(number) for number in range(300)]
    world.run(jobs, concurrency=64, options=RunOptions(limit=280))
    ran = world.run(jobs, part_bytes=2000)
    assert ran.exit_code == 0
    assert len(ran.sent) == 20
    skipped = ran.said(JobSkipped)
    assert sum(event.count for event in skipped) == 280
    assert any(event.count > 1 for event in skipped)


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_lanes_that_wait_for_the_same_slots_take_turns(concurrency: int) -> None:
    """Once, the first lane to be woken went to the end of the line instead of taking its slot."""
    world = World()
    jobs = [ask(number, url="/v1/completions") if number % 3 else ask(number) for number in range(30)]
    assert world.run(jobs, concurrency=concurrency).exit_code == 0
    assert len(world.rows()) == 30


def test_every_fault_at_one_in_twenty_and_two_thousand_jobs() -> None:
    world = World(replace(QUICK, faults=Faults.parse("all=0.05"), seed=11))
    jobs = [ask(number, n=2) if number % 7 == 0 else ask(number) for number in range(2000)]
    ran = world.run(jobs, concurrency=64)
    rows, failed = by_id(world.rows()), by_id(world.failures())
    assert ran.exit_code == (1 if failed else 0)
    assert rows.keys() | failed.keys() == {f"job-{number}" for number in range(2000)}
    assert not rows.keys() & failed.keys()
    for row in rows.values():
        number = row["line"] - 1
        more = {"n": 2} if number % 7 == 0 else {}
        request = {"model": "m", "messages": [{"role": "user", "content": f"Question {number}?"}], **more}
        expected = world.provider.expected_body("/v1/chat/completions", request)
        if row["usage_source"] == "computed":
            expected["usage"] = row["usage"]
        assert row["response"]["body"] == expected
    assert all("the last of 6 failed attempts" in row["error"]["message"] for row in failed.values())
    assert all(row["attempts"] >= 6 for row in failed.values())
    assert world.provider.billing.completed == len(rows), "a complete reply is a row"
    assert len(ran.said(JobFinished)) == 2000
    assert ran.most_in_flight <= 64


def test_a_model_out_of_budget_holds_up_the_others_by_no_more_than_the_look_ahead() -> None:
    world = World(INSTANT)
    limits = LimitSettings(per_model={"slow": RateLimits(rpm=6), "fast": RateLimits(rpm=6000)})
    jobs = [ask(number, model="slow" if number % 10 == 0 else "fast") for number in range(200)]
    ran = world.run(jobs, options=RunOptions(look_ahead=15), limits=limits)
    assert ran.exit_code == 0
    sent_at = {name: at for at, name, _ in ran.sent}
    # The fast ones wait only while all the places ahead are taken by slow ones: fifteen of them, so for five of twenty.
    fast = [sent_at[f"job-{number}"] for number in range(200) if number % 10]
    assert sum(at < 5 for at in fast) >= 9 * 15 - 10
    assert max(fast) <= 5 * 10 + 5
    assert max(sent_at.values()) >= 19 * 10 * 0.9, "the slow ones take their time"


@pytest.mark.parametrize("faults", ["", "all=0.05", "error_500=0.3", "burst_429=0.2"])
def test_a_job_leaves_nothing_to_the_garbage_collector(
    faults: str, count_garbage: Callable[[Callable[[], object]], int]
) -> None:
    def run(jobs: int) -> tuple[World, object]:
        world = World(replace(QUICK, faults=Faults.parse(faults), seed=3) if faults else QUICK)
        return world, world.run([ask(number) for number in range(jobs)])

    few, many = (count_garbage(partial(run, jobs)) for jobs in (100, 300))
    assert many <= few + 20
