"""Whole runs in memory: every job gets its row, whatever the lines and the provider are like."""

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
from tests.support.scheduler_world import ERRORS, FAST_PROVIDER, RESULTS, World, kill_at, short_job, to_jsonl
from tests.support.slow_cases import slow_except

KEYS = ["id", "custom_id", "response", "error", "usage", "usage_source", "attempts", "timing", "cost_usd", "line"]


def by_id(rows: list[JSON]) -> dict[str, JSON]:
    found = {row["custom_id"]: row for row in rows}
    assert len(found) == len(rows), "a job has two rows"
    return found


def test_every_job_gets_its_reply_and_nothing_else_is_written() -> None:
    world = World()
    run = world.run([short_job(number, metadata={"n": number}) for number in range(30)])
    assert (run.exit_code, run.reason) == (0, None)
    rows = by_id(world.rows())
    assert set(rows) == {f"job-{number}" for number in range(30)}
    for row in rows.values():
        assert list(row) == [*KEYS, "usage_estimated", "endpoint", "asked_model", "streamed", "metadata"]
        request = {"model": "m", "messages": [{"role": "user", "content": f"Question {row['metadata']['n']}?"}]}
        assert row["response"]["body"] == world.provider.expected_body("/v1/chat/completions", request)
        assert row["line"] == row["metadata"]["n"] + 1
        assert (row["attempts"], row["usage_source"], row["error"]) == (1, "reported", None)
    assert world.disk.contents(ERRORS) is None
    assert world.provider.billing.requests == 30


def test_rows_are_in_line_order_with_one_request_at_a_time() -> None:
    world = World()
    world.run([short_job(number) for number in range(10)], concurrency=1)
    assert [row["line"] for row in world.rows()] == list(range(1, 11))


def test_second_run_of_a_finished_file_sends_nothing_and_changes_nothing() -> None:
    world, jobs = World(), [short_job(number) for number in range(10)]
    world.run(jobs)
    before = world.disk.contents(RESULTS)
    again = world.run(jobs)
    assert (again.exit_code, again.sent) == (0, [])
    assert world.disk.contents(RESULTS) == before
    assert [event.reason for event in again.events_of(JobSkipped)] == ["done"] * 10


def test_invalid_lines_get_failed_rows_and_the_other_jobs_their_replies() -> None:
    world = World()
    bad = [b"{broken", b"[1, 2]", b'{"id": "x", "model": "m"}', b'{"model": "m", "prompt": "\xff"}', b"x" * 3000]
    jobs = b"\xef\xbb\xbf" + to_jsonl([short_job(1)]) + b"\n\r\n" + b"\r\n".join(bad) + b"\n" + to_jsonl([short_job(2)])
    run = world.run(jobs, max_line_bytes=2000)
    assert run.exit_code == 1
    assert set(by_id(world.rows())) == {"job-1", "job-2"}
    failed = {row["line"]: row for row in world.failures()}
    codes = {4: "invalid_json", 5: "not_an_object", 6: "invalid_job", 7: "not_utf8", 8: "line_too_long"}
    assert {line: row["error"]["code"] for line, row in failed.items()} == codes
    for line, row in failed.items():
        assert row["error"]["message"].startswith(f"jobs.jsonl, line {line}: ")
        assert (row["timing"], row["response"], row["attempts"]) == (None, None, 0)
    assert failed[6]["custom_id"] == "x"


def test_second_job_with_the_same_custom_id_fails() -> None:
    world = World()
    run = world.run([short_job(1), {**short_job(1), "prompt": "Another?"}])
    assert run.exit_code == 1
    (row,) = world.rows()
    (failed,) = world.failures()
    assert (row["line"], failed["line"], failed["error"]["code"]) == (1, 2, "duplicate_custom_id")


def test_identical_jobs_without_ids_are_each_answered_once() -> None:
    world, job = World(), {"model": "m", "prompt": "Say something."}
    world.run([job, job, job])
    names = {row["custom_id"] for row in world.rows()}
    (fingerprint,) = {row["id"] for row in world.rows()}
    assert names == {fingerprint, f"{fingerprint}-2", f"{fingerprint}-3"}
    assert world.run([job, short_job(1), job, job]).exit_code == 0
    assert world.provider.billing.requests == 4


@pytest.mark.parametrize("resend", [False, True])
def test_edited_job_keeps_its_reply_unless_changed_jobs_are_resent(resend: bool) -> None:
    world = World()
    world.run([short_job(1), short_job(2)])
    old = by_id(world.rows())["job-1"]
    run = world.run([{**short_job(1), "prompt": "Edited?"}, short_job(2)], options=RunOptions(resend_changed=resend))
    assert run.exit_code == 0
    row = by_id(world.rows())["job-1"]
    assert (row == old) is not resend
    assert len(run.sent) == resend
    if not resend:
        assert [event.custom_id for event in run.events_of(JobSkipped) if event.reason == "changed"] == ["job-1"]


def test_permanently_failed_job_is_retried_only_with_retry_failed() -> None:
    world = World()
    jobs = [short_job(1), short_job(2, n="many")]
    assert world.run(jobs).exit_code == 1
    (failed,) = world.failures()
    assert (failed["error"]["code"], failed["own_fault"]) == ("rejected", True)
    assert failed["response"]["status_code"] == 400
    assert (run := world.run(jobs)).exit_code == 1
    assert not run.sent
    assert len(world.run(jobs, options=RunOptions(retry_failed=True)).sent) == 1
    assert len(world.failures()) == 1


def test_corrected_job_is_sent_again_after_a_permanent_failure() -> None:
    world = World()
    assert world.run([short_job(1, n="many")]).exit_code == 1
    assert world.run([short_job(1)]).exit_code == 0
    assert world.disk.contents(ERRORS) is None


def test_failed_job_is_retried_by_the_next_run() -> None:
    world = World(replace(FAST_PROVIDER, faults=Faults({"error_500": 1.0})))
    assert world.run([short_job(1), short_job(2)], policy=RetryPolicy(max_attempts=2)).exit_code == 1
    world.provider.settings = replace(world.provider.settings, faults=Faults())
    assert world.run([short_job(1), short_job(2)]).exit_code == 0
    assert {row["attempts"] for row in world.rows()} == {3}
    assert world.disk.contents(ERRORS) is None


def test_failed_row_names_the_number_of_attempts() -> None:
    world = World(replace(FAST_PROVIDER, faults=Faults({"reset_mid": 1.0})))
    run = world.run([short_job(1)])
    assert run.exit_code == 1
    (row,) = world.failures()
    assert row["error"]["code"] == "stream_truncated"
    assert "the last of 6 failed attempts" in row["error"]["message"]
    assert (row["attempts"], row["response"], len(run.sent)) == (6, None, 6)


def test_job_larger_than_the_token_limit_fails_at_once_and_delays_no_other() -> None:
    world = World()
    limits = LimitSettings(default=RateLimits(tpm=1000))
    run = world.run([short_job(1, max_tokens=2000), short_job(2, max_tokens=50)], limits=limits)
    assert run.exit_code == 1
    (row,) = world.failures()
    assert (row["error"]["code"], row["attempts"], row["own_fault"]) == ("too_large", 0, True)
    assert [custom_id for _, custom_id, _ in run.sent] == ["job-2"]
    assert run.took_s < 5


def test_limit_restricts_the_run_to_the_first_jobs() -> None:
    world, jobs = World(), [short_job(number) for number in range(10)]
    assert world.run(jobs, options=RunOptions(limit=4)).exit_code == 0
    assert set(by_id(world.rows())) == {f"job-{number}" for number in range(4)}
    assert world.run(jobs).exit_code == 0
    assert world.provider.billing.requests == 10


@pytest.mark.parametrize(("jobs", "exit_code"), [(b"", 0), (b"\n\n", 0), (b"{broken\n", 1)])
def test_file_without_a_job_ends_as_its_rows_say(jobs: bytes, exit_code: int) -> None:
    run = World().run(jobs)
    assert run.exit_code == exit_code
    assert run.reason and run.reason.startswith("jobs.jsonl holds no job")


class _DeadPooledConnections:
    """A transport whose first connections turn out to be dead."""

    def __init__(self, stream: Transport, deaths: int) -> None:
        self._stream = stream
        self._dead_left = deaths

    async def __call__(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        if self._dead_left:
            self._dead_left -= 1
            on_event(Sent(0.0))
            raise ConnectionLost("the server hung up", reused=True)
        return await self._stream(job, target, on_event)


def test_dead_pooled_connection_is_replaced_at_once_and_not_counted() -> None:
    world = World()
    run = world.run(
        [short_job(1)],
        policy=RetryPolicy(max_attempts=1),
        wrap_transport=lambda stream: _DeadPooledConnections(stream, 1),
    )
    assert run.exit_code == 0
    assert world.rows()[0]["attempts"] == 2, "the first may have been billed"
    assert run.took_s < 2


def test_second_dead_connection_counts_as_a_failure() -> None:
    world = World()
    run = world.run(
        [short_job(1)],
        policy=RetryPolicy(max_attempts=1),
        wrap_transport=lambda stream: _DeadPooledConnections(stream, 2),
    )
    assert run.exit_code == 1
    assert world.failures()[0]["error"]["code"] == "connection_lost"


def test_reply_without_usage_gets_the_computed_usage() -> None:
    world = World(replace(FAST_PROVIDER, faults=Faults({"no_usage": 1.0})))
    world.run([short_job(1)])
    (row,) = world.rows()
    assert row["usage_source"] == "computed"
    assert row["response"]["body"]["usage"] == row["usage"]


def test_reader_stays_within_the_look_ahead() -> None:
    world = World(INSTANT)
    limits = LimitSettings(default=RateLimits(rpm=60))
    run = world.run(
        (short_job(n) for n in range(100)), options=RunOptions(look_ahead=5), limits=limits, on_start=kill_at(20.5)
    )
    assert 15 < len(world.rows()) < 25
    assert run.items_read - len(world.rows()) <= 5 + 1, "one more has been read and waits for its slot"


class _RecordingPrinter:
    """Records the calls of the scheduler."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self, job: Job) -> None:
        self.calls.append(f"begin {job.custom_id}")

    def on_event(self, event: RequestEvent) -> None:
        self.calls.append(type(event).__name__)

    def on_invalid(self, problem: str) -> None:
        raise AssertionError

    def end(self, result: Result) -> None:
        self.calls.append(f"end {result.custom_id}")


def test_printer_gets_all_events_and_one_header_for_each_job() -> None:
    world, printer = World(replace(FAST_PROVIDER, faults=Faults({"error_500": 0.5}), seed=2)), _RecordingPrinter()
    world.run([short_job(number) for number in range(4)], concurrency=1, printer=printer)
    assert sum(call.startswith("begin") for call in printer.calls) == 4
    assert sum(call.startswith("end") for call in printer.calls) == 4
    assert printer.calls.count("Sent") > 4
    assert printer.calls.count("FirstToken") == 4


def test_scheduler_reports_what_is_in_flight() -> None:
    world, answers = World(FAST_PROVIDER), []

    def on_start(run: Scheduler) -> None:
        def look() -> None:
            answers.append((len(run.in_flight), run.limiter_snapshots[0].in_flight, run.is_stopping))

        asyncio.get_running_loop().call_at(1.0, look)

    world.run([short_job(number) for number in range(50)], concurrency=4, on_start=on_start)
    assert answers == [(4, 4, False)]


def test_finished_jobs_of_a_large_file_are_skipped_and_counted() -> None:
    world, jobs = World(), [short_job(number) for number in range(300)]
    world.run(jobs, concurrency=64, options=RunOptions(limit=280))
    run = world.run(jobs, part_bytes=2000)
    assert run.exit_code == 0
    assert len(run.sent) == 20
    skipped = run.events_of(JobSkipped)
    assert sum(event.count for event in skipped) == 280
    assert any(event.count > 1 for event in skipped)


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_limit_groups_that_wait_for_the_same_slots_take_turns(concurrency: int) -> None:
    """The first limit group that is woken takes the free slot and does not queue again."""
    world = World()
    jobs = [short_job(number, url="/v1/completions") if number % 3 else short_job(number) for number in range(30)]
    assert world.run(jobs, concurrency=concurrency).exit_code == 0
    assert len(world.rows()) == 30


@pytest.mark.parametrize("count", [250, *(pytest.param(count, marks=pytest.mark.slow) for count in (500, 2000))])
def test_every_job_has_one_row_with_every_fault_at_five_percent(count: int) -> None:
    world = World(replace(FAST_PROVIDER, faults=Faults.parse("all=0.05"), seed=11))
    jobs = [short_job(number, n=2) if number % 7 == 0 else short_job(number) for number in range(count)]
    run = world.run(jobs, concurrency=64)
    rows, failed = by_id(world.rows()), by_id(world.failures())
    assert run.exit_code == (1 if failed else 0)
    assert rows.keys() | failed.keys() == {f"job-{number}" for number in range(count)}
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
    assert world.provider.billing.completed == len(rows), "every complete reply has a row"
    assert len(run.events_of(JobFinished)) == count
    assert run.max_in_flight <= 64


def test_throttled_model_delays_other_models_by_at_most_the_look_ahead() -> None:
    world = World(INSTANT)
    limits = LimitSettings(per_model={"slow": RateLimits(rpm=6), "fast": RateLimits(rpm=6000)})
    jobs = [short_job(number, model="slow" if number % 10 == 0 else "fast") for number in range(200)]
    run = world.run(jobs, options=RunOptions(look_ahead=15), limits=limits)
    assert run.exit_code == 0
    sent_at = {name: at for at, name, _ in run.sent}
    # The fast jobs wait only while slow ones fill the look-ahead of fifteen: that is, for five of the twenty slow ones.
    fast = [sent_at[f"job-{number}"] for number in range(200) if number % 10]
    assert sum(at < 5 for at in fast) >= 9 * 15 - 10
    assert max(fast) <= 5 * 10 + 5
    assert max(sent_at.values()) >= 19 * 10 * 0.9, "the slow ones keep to their limit"


@pytest.mark.parametrize("few_jobs", [100, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("faults", slow_except(["", "all=0.05", "error_500=0.3", "burst_429=0.2"], "all=0.05"))
def test_finished_job_leaves_no_reference_cycles(
    faults: str, few_jobs: int, count_garbage: Callable[[Callable[[], object]], int]
) -> None:
    def run(jobs: int) -> list[object]:
        """The scheduler keeps alive what the limiter remembers: that is bounded, but by time and not by jobs."""
        world = World(replace(FAST_PROVIDER, faults=Faults.parse(faults), seed=3) if faults else FAST_PROVIDER)
        kept: list[object] = [world]
        kept.append(world.run([short_job(number) for number in range(jobs)], on_start=kept.append))
        return kept

    few, many = (count_garbage(partial(run, jobs)) for jobs in (few_jobs, few_jobs + 150))
    assert many <= few + 20
