"""The summary of a run, word for word: changing it is a decision."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest

from processor.core.events import BottleneckChanged, JobFinished, JobSkipped, RunEvent, RunStarted, SkipReason, Stopping
from processor.core.models import Failure, Reply, Result, Timing, Usage
from processor.core.worker_events import WorkerEnded
from processor.stats.run_stats import RunStats
from processor.stats.summary_json import SummaryContext, summary_json
from processor.terminal import label_table, status_line
from processor.terminal.summary import summary_rows
from tests.support.run_events import attempt_failed, attempt_started, attempt_succeeded

CONTEXT = SummaryContext(results="results.jsonl", errors=None, command="process jobs.jsonl --out results.jsonl")


def stats_after(*events: RunEvent, jobs: int | None = 3, done: int = 0) -> RunStats:
    stats = RunStats()
    for event in (RunStarted(at=0.0, jobs=jobs, done=done), *events):
        stats(event)
    return stats


def attempt(at: float, code: str | None = None, status: int | None = 200) -> list[RunEvent]:
    if code is None:
        return [attempt_started(at), attempt_succeeded(at + 1, status=status)]
    return [attempt_started(at), attempt_failed(code, at=at + 1, status=status)]


def reply(at: float, finish_reason: str = "stop", reported: tuple[int, int] | None = None, **more: Any) -> RunEvent:
    result = Result(
        fingerprint="f",
        custom_id="r-1",
        line=1,
        reply=Reply(status_code=200, request_id=None, body={}),
        usage=Usage(prompt_tokens=1000, completion_tokens=500),
        reported=Usage(prompt_tokens=reported[0], completion_tokens=reported[1]) if reported else None,
        finish_reasons=(finish_reason,),
        is_cut_short=finish_reason == "length",
        timing=Timing(started_at="", queued_s=0.0, first_token_s=0.4, total_s=3.0),
        **more,
    )
    return JobFinished(at=at, result=result)


def failure(code: str, custom_id: str, permanent: bool = False) -> RunEvent:
    failed = Failure(code=code, message=f"it was {code}\nand more", permanent=permanent)
    return JobFinished(at=60.0, result=Result(fingerprint="f", custom_id=custom_id, line=1, failure=failed))


def summary(stats: RunStats, context: SummaryContext = CONTEXT) -> str:
    return label_table.plain_text(summary_rows(stats, context))


def test_summary_of_a_run_without_failures_is_short() -> None:
    events = [*attempt(0.0), reply(1.0), *attempt(1.0), reply(42.0, reported=(1002, 500)), *attempt(41.0), reply(42.0)]
    assert summary(stats_after(BottleneckChanged(at=0.0, bottleneck="requests"), *events)) == (
        "\n"
        "done         3 of 3 jobs in 42 s\n"
        "attempts     3\n"
        "tokens       3,002 prompt + 1,500 completion, "
        "reported by the server for 1 reply (tiktoken counts 0.1% less), else computed\n"
        "first token  0.40 s median, 0.40 s p95\n"
        "whole reply  3.0 s median, 3.0 s p95\n"
        "limited by   requests 100%\n"
        "results      results.jsonl\n"
    )


def worker_ended(requests: int, reason: str | None = None, lost_requests: int = 0) -> RunEvent:
    return WorkerEnded(at=1.0, worker="w", node="n", requests=requests, lost_requests=lost_requests, reason=reason)


def workers_row(*events: RunEvent) -> str:
    (row,) = [line for line in summary(stats_after(*events)).splitlines() if line.startswith("workers")]
    return row.removeprefix("workers").strip()


def test_summary_says_what_workers_did_and_lost() -> None:
    assert workers_row(worker_ended(7), worker_ended(9)) == "2, with 7 to 9 requests each"
    assert workers_row(worker_ended(3, "killed", 50), worker_ended(9)) == (
        "1, with 9 requests each; 1 lost, with 50 requests in flight, which were sent again"
    )


def test_summary_counts_unconfirmed_replies_and_says_how_to_list_them() -> None:
    stats = stats_after(*attempt(0.0), reply(1.0, "because", is_unconfirmed=True))
    lines = summary(stats, replace(CONTEXT, results="my results.jsonl"))
    assert "unconfirmed  1 reply ended without a known finish reason\n" in lines
    assert "jq -r 'select(.complete).custom_id' 'my results.jsonl'\n" in lines
    assert "jq" not in summary(stats, replace(CONTEXT, results="-"))


def test_summary_names_the_first_changed_jobs() -> None:
    changed = [JobSkipped(custom_id=f"r-{number}", reason="changed") for number in range(1204)]
    row = "changed  1,204 jobs edited since the reply came, reply kept: r-0, r-1, r-2, … "
    assert f"{row}(use --changed resend to send again)\n" in summary(stats_after(*changed, jobs=1204, done=1204))


def test_summary_has_a_row_for_each_kind_of_problem() -> None:
    events = [
        *(JobSkipped(custom_id="r", reason=reason) for reason in get_args(SkipReason)),
        *attempt(0.0, "rate_limited", 429),
        *attempt(1.0, "stream_truncated"),
        *attempt(2.0, "stream_truncated"),
        reply(50.0, "length", (1000, 500), cost_usd=1.234),
        failure("timeout", "r-7"),
        failure("timeout", "r-8"),
        failure("rejected", "r-9", permanent=True),
        Stopping(at=61.0, reason="quota used up"),
    ]
    context = SummaryContext(results="results.jsonl", errors="results.errors.jsonl", command=CONTEXT.command)
    context = replace(context, rows_without_job=2)
    assert summary(stats_after(*events, jobs=11, done=2), context) == (
        "\n"
        "done             6 of 11 jobs (1 in 1m 01s, 5 in earlier runs)\n"
        "failed           2 timeout, e.g. r-7: it was timeout and more\n"
        "                 1 rejected, r-9: it was rejected and more\n"
        "                 1 job failed permanently in an earlier run; use --retry-failed to send again\n"
        "stopped          1 job remaining: quota used up\n"
        "changed          1 job edited since the reply came, reply kept: r (use --changed resend to send again)\n"
        "                 1 job answered by another model, reply kept: r (use --changed resend to send again)\n"
        "                 1 job answered at another address, reply kept: r (use --changed resend to send again)\n"
        "                 1 job checked against another schema, or none, reply kept: r "
        "(use --changed resend to send again)\n"
        "not in file      2 rows of jobs that are not in the job file; kept\n"
        "attempts         3, 3 failed and retried: 2 stream_truncated, 1 rate_limited\n"
        "possibly billed  2 attempts sent, but ended without a reply\n"
        "tokens           1,000 prompt + 500 completion, reported by the server (tiktoken counts the same)\n"
        "cost             1.23 USD\n"
        "first token      0.40 s median, 0.40 s p95\n"
        "whole reply      3.0 s median, 3.0 s p95\n"
        "cut short        1 reply ended by the token limit\n"
        "results          results.jsonl\n"
        "errors           results.errors.jsonl\n"
        "to resume        process jobs.jsonl --out results.jsonl\n"
    )


def test_summary_of_a_simulated_run_mentions_no_bill_and_compares_no_token_counts() -> None:
    events = [*attempt(0.0, "stream_truncated"), reply(50.0, "stop", (1000, 500))]
    simulated = RunStats()
    for event in (RunStarted(at=0.0, jobs=1, done=0, simulated=True), *events):
        simulated(event)
    text = summary(simulated)
    assert "tokens       1,000 prompt + 500 completion (simulated, not billed)\n" in text
    assert "possibly billed" not in text
    assert summary_json(simulated, CONTEXT)["simulated"] is True
    assert ", simulated" in status_line.status_text(simulated, 60.0)


def test_summary_of_a_run_with_nothing_to_do() -> None:
    assert summary(stats_after(JobSkipped(custom_id="r", reason="done"), jobs=1, done=1)) == (
        "\ndone     1 of 1 job (none in this run, 1 in earlier runs)\nresults  results.jsonl\n"
    )


def test_summary_of_a_run_without_replies() -> None:
    assert "done       0 of 3 jobs (none in this run)\n" in summary(
        stats_after(failure("rejected", "r-1", permanent=True))
    )


def test_permanent_failures_are_retried_by_a_command_with_retry_failed() -> None:
    text = summary(stats_after(failure("rejected", "r-1", permanent=True), jobs=1))
    assert text.endswith("once fixed  process jobs.jsonl --out results.jsonl --retry-failed\n")
    again = SummaryContext(results="r.jsonl", errors=None, command="process jobs.jsonl --retry-failed")
    text = summary(stats_after(failure("rejected", "r-1", permanent=True), jobs=1), again)
    assert text.endswith("once fixed  process jobs.jsonl --retry-failed\n")


def test_invalid_lines_are_retried_by_the_same_command() -> None:
    text = summary(stats_after(failure("invalid_json", "line 3", permanent=True), jobs=1))
    assert text.endswith("once fixed  process jobs.jsonl --out results.jsonl\n")


def test_temporary_failures_are_retried_by_the_same_command() -> None:
    assert summary(stats_after(failure("timeout", "r-1"), jobs=1)).endswith(
        "to resume  process jobs.jsonl --out results.jsonl\n"
    )


def test_results_on_stdout_give_no_command_to_resume() -> None:
    text = summary(
        stats_after(failure("timeout", "r-1"), jobs=None), SummaryContext(results="-", errors=None, command=None)
    )
    assert text.endswith("results  stdout\n")


def test_usage_that_was_not_reported_is_computed_with_tiktoken() -> None:
    assert "1,000 prompt + 500 completion, computed with tiktoken\n" in summary(stats_after(reply(1.0)))


def test_difference_between_reported_and_computed_tokens_is_shown() -> None:
    assert "reported by the server (tiktoken counts 50.0% more)" in summary(
        stats_after(reply(1.0, reported=(500, 500)))
    )


def test_json_summary_holds_the_counts_of_the_summary() -> None:
    events = [
        *attempt(0.0, "timeout", None),
        reply(2.0, "length", (1000, 500)),
        failure("timeout", "r-7"),
        BottleneckChanged(at=0.0, bottleneck=None),
        JobSkipped(custom_id="r", reason="done"),
    ]
    found = summary_json(stats_after(*events, jobs=4, done=1), CONTEXT)
    assert json.loads(json.dumps(found)) == found
    assert found["jobs"] == 4
    assert (found["done"], found["done_before"], found["unsettled"]) == (1, 1, 1)
    assert found["failed"] == {"timeout": {"count": 1, "example": "r-7", "message": "it was timeout\nand more"}}
    assert (found["attempts"], found["retried"], found["maybe_billed"]) == (1, {"timeout": 1}, 1)
    assert found["tokens"]["used"] == {"replies": 1, "prompt": 1000, "completion": 500}
    assert found["total_s"]["median"] == pytest.approx(3.0, rel=0.02)
    assert found["finish_reasons"] == {"length": 1}
    assert found["command"] == "process jobs.jsonl --out results.jsonl"


def test_line_of_a_failed_row_without_an_id_is_named_once() -> None:
    failed = Failure(code="not_utf8", message="jobs.jsonl, line 7: not UTF-8", permanent=True)
    rows = [JobFinished(at=1.0, result=Result(fingerprint="f", custom_id=None, line=7, failure=failed))] * 2
    assert "2 not_utf8, e.g. jobs.jsonl, line 7: not UTF-8\n" in summary(stats_after(*rows))
