"""What stands before and after a run, word for word: changing it is a decision."""

from __future__ import annotations

import io
import json
from typing import Any, get_args

import pytest

from processor.core.events import (
    BottleneckChanged,
    JobFinished,
    JobSkipped,
    RunEvent,
    RunStarted,
    SkipReason,
    Stopping,
)
from processor.core.models import Failure, Reply, Result, Timing, Usage
from processor.stats.run_stats import RunStats
from processor.terminal import console, label_table, startup_banner, status_line, summary
from processor.terminal.label_table import LabelRow
from processor.terminal.startup_banner import Banner
from processor.terminal.summary import SummaryContext
from tests.support.run_events import attempt_failed, attempt_started, attempt_succeeded


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def damage(count: int, *numbers: int) -> startup_banner.Damage:
    return startup_banner.Damage(file="r.jsonl", count=count, numbers=numbers, kept_aside="r.damaged.jsonl")


def opened(**more: Any) -> str:
    usual: dict[str, Any] = {
        "source": "jobs.jsonl",
        "jobs": 2000,
        "done": 0,
        "results": "results.jsonl",
        "endpoint": "https://api.openai.com/v1",
        "key_from": "OPENAI_API_KEY",
        "concurrency": 64,
    }
    return label_table.plain(startup_banner.rows(Banner(**usual | more)))


def test_the_first_lines_say_what_is_about_to_happen() -> None:
    assert opened(done=1204, rpm=500, tpm=200_000) == (
        "jobs     jobs.jsonl: 2,000 jobs, 1,204 done already, 796 to do\n"
        "to       https://api.openai.com/v1, key from OPENAI_API_KEY\n"
        "limits   500 requests and 200,000 tokens a minute; at most 64 in flight\n"
        "results  results.jsonl\n"
        "\n"
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "jobs     jobs.jsonl: 2,000 jobs\n"),
        ({}, "limits   none configured, the server's are found out; at most 64 in flight\n"),
        ({"concurrency": None}, "limits   none configured, the server's are found out\n"),
        ({"done": 2000}, "jobs     jobs.jsonl: 2,000 jobs, 2,000 done already, nothing to do\n"),
        ({"source": "-", "jobs": None}, "jobs     stdin\n"),
        ({"source": "-", "jobs": None, "done": 7}, "jobs     stdin, 7 done already\n"),
        ({"key_from": None}, "to       https://api.openai.com/v1, without a key\n"),
        ({"simulated": True}, "to       the simulator: nothing leaves this machine, nobody is billed\n"),
        ({"tpm": 9000, "own_limits": ("gpt-4o",)}, "limits   9,000 tokens a minute, apart from gpt-4o; at most 64"),
        ({"results": "-"}, "results  stdout, without a journal: a run that stops cannot go on\n"),
        (
            {"damage": (damage(1, 3),)},
            "warning  1 damaged line in r.jsonl (line 3), kept in r.damaged.jsonl: what had these rows is done again\n",
        ),
        (
            {"damage": (damage(9, 1, 2, 3, 4, 5, 6),)},
            "warning  9 damaged lines in r.jsonl (lines 1, 2, 3, 4, 5, ...), "
            "kept in r.damaged.jsonl: what had these rows is done again\n",
        ),
        ({"maybe_billed": 3}, "warning  3 requests of an earlier run may have been billed without a reply\n"),
        ({"warnings": ("little room",)}, "warning  little room\n"),
    ],
)
def test_the_first_lines_fit_the_run(more: dict[str, Any], expected: str) -> None:
    assert expected in opened(**more)


# ---------------------------------------------------------------- the end

CLOSING = SummaryContext(results="results.jsonl", errors=None, command="process jobs.jsonl --out results.jsonl")


def tally(*events: RunEvent, jobs: int | None = 3, done: int = 0) -> RunStats:
    tally = RunStats()
    for event in (RunStarted(at=0.0, jobs=jobs, done=done), *events):
        tally(event)
    return tally


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


def said(tally: RunStats, closing: SummaryContext = CLOSING) -> str:
    return label_table.plain(summary.rows(tally, closing))


def test_a_run_without_trouble_ends_in_a_few_lines() -> None:
    events = [*attempt(0.0), reply(1.0), *attempt(1.0), reply(42.0, reported=(1002, 500)), *attempt(41.0), reply(42.0)]
    assert said(tally(BottleneckChanged(at=0.0, bottleneck="requests"), *events)) == (
        "\n"
        "done         3 of 3 jobs in 42 s\n"
        "attempts     3\n"
        "tokens       3,002 prompt + 1,500 completion, "
        "as reported for 1 reply (tiktoken counts 0.1% less), else computed\n"
        "first token  0.40 s median, 0.40 s p95\n"
        "whole reply  3.0 s median, 3.0 s p95\n"
        "bound by     requests 100%\n"
        "results      results.jsonl\n"
    )


def test_the_first_jobs_that_changed_are_named() -> None:
    changed = [JobSkipped(custom_id=f"r-{number}", reason="changed") for number in range(1204)]
    assert (
        "changed  1,204 jobs since the reply came, kept as answered: r-0, r-1, r-2, … (--changed resend asks anew)\n"
    ) in said(tally(*changed, jobs=1204, done=1204))


def test_a_run_with_every_trouble_says_each_in_a_line() -> None:
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
    closing = SummaryContext(results="results.jsonl", errors="results.errors.jsonl", command=CLOSING.command)
    assert said(tally(*events, jobs=10, done=2), closing) == (
        "\n"
        "done          3 of 10 jobs: 1 in 1m 01s, 2 before\n"
        "failed        2 timeout, e.g. r-7: it was timeout and more\n"
        "              1 rejected, r-9: it was rejected and more\n"
        "              1 job before, by their own fault: not sent again\n"
        "stopped       3 jobs to go: quota used up\n"
        "changed       1 job since the reply came, kept as answered: r (--changed resend asks anew)\n"
        "attempts      3, 3 failed and tried again: 2 stream_truncated, 1 rate_limited\n"
        "maybe billed  2 attempts that broke off without a reply\n"
        "tokens        1,000 prompt + 500 completion, as reported (tiktoken counts the same)\n"
        "cost          $1.23\n"
        "first token   0.40 s median, 0.40 s p95\n"
        "whole reply   3.0 s median, 3.0 s p95\n"
        "cut short     1 reply ended by the token limit (finish reason length)\n"
        "results       results.jsonl\n"
        "errors        results.errors.jsonl\n"
        "to go on      process jobs.jsonl --out results.jsonl\n"
    )


def test_a_simulated_run_says_that_nobody_was_billed_and_compares_nothing() -> None:
    events = [*attempt(0.0, "stream_truncated"), reply(50.0, "stop", (1000, 500))]
    simulated = RunStats()
    for event in (RunStarted(at=0.0, jobs=1, done=0, simulated=True), *events):
        simulated(event)
    text = said(simulated)
    assert "tokens       1,000 prompt + 500 completion, simulated: nobody was billed\n" in text
    assert "maybe billed" not in text
    assert summary.summary_json(simulated, CLOSING)["simulated"] is True
    assert ", simulated" in status_line.line(simulated, 60.0)


def test_nothing_to_do_says_so() -> None:
    assert said(tally(JobSkipped(custom_id="r", reason="done"), jobs=1, done=1)) == (
        "\ndone     1 of 1 job: none in this run, 1 before\nresults  results.jsonl\n"
    )


def test_nothing_done_says_so() -> None:
    assert "done      0 of 3 jobs: none in this run\n" in said(tally(failure("rejected", "r-1", permanent=True)))


def test_jobs_of_their_own_fault_are_only_sent_again_once_fixed() -> None:
    text = said(tally(failure("rejected", "r-1", permanent=True), jobs=1))
    assert text.endswith("once fixed  process jobs.jsonl --out results.jsonl --retry-failed\n")
    again = SummaryContext(results="r.jsonl", errors=None, command="process jobs.jsonl --retry-failed")
    text = said(tally(failure("rejected", "r-1", permanent=True), jobs=1), again)
    assert text.endswith("once fixed  process jobs.jsonl --retry-failed\n")


def test_lines_that_are_no_jobs_need_no_flag_once_they_are_mended() -> None:
    text = said(tally(failure("invalid_json", "line 3", permanent=True), jobs=1))
    assert text.endswith("once fixed  process jobs.jsonl --out results.jsonl\n")


def test_failures_that_may_pass_are_tried_again_by_the_same_command() -> None:
    assert said(tally(failure("timeout", "r-1"), jobs=1)).endswith("to go on  process jobs.jsonl --out results.jsonl\n")


def test_without_a_journal_there_is_no_command_to_go_on() -> None:
    text = said(tally(failure("timeout", "r-1"), jobs=None), SummaryContext(results="-", errors=None, command=None))
    assert text.endswith("results  stdout\n")


def test_usage_that_nobody_reported_is_tiktokens() -> None:
    assert "1,000 prompt + 500 completion, computed with tiktoken\n" in said(tally(reply(1.0)))


def test_tiktoken_can_count_more_than_the_server() -> None:
    assert "as reported (tiktoken counts 50.0% more)" in said(tally(reply(1.0, reported=(500, 500))))


def test_scripts_get_the_same_as_json() -> None:
    events = [
        *attempt(0.0, "timeout", None),
        reply(2.0, "length", (1000, 500)),
        failure("timeout", "r-7"),
        BottleneckChanged(at=0.0, bottleneck=None),
        JobSkipped(custom_id="r", reason="done"),
    ]
    told = summary.summary_json(tally(*events, jobs=4, done=1), CLOSING)
    assert json.loads(json.dumps(told)) == told
    assert told["jobs"] == 4
    assert (told["done"], told["done_before"], told["unsettled"]) == (1, 1, 1)
    assert told["failed"] == {"timeout": {"count": 1, "example": "r-7", "message": "it was timeout\nand more"}}
    assert (told["attempts"], told["retried"], told["maybe_billed"]) == (1, {"timeout": 1}, 1)
    assert told["tokens"]["used"] == {"replies": 1, "prompt": 1000, "completion": 500}
    assert told["total_s"]["median"] == pytest.approx(3.0, rel=0.02)
    assert told["finish_reasons"] == {"length": 1}
    assert told["command"] == "process jobs.jsonl --out results.jsonl"


# ---------------------------------------------------------------- on a terminal

LONG = [
    LabelRow("label", "word " * 40, "bad"),
    LabelRow("", "more"),
    LabelRow("to go on", "process " + "x" * 100, "command"),
]


def test_on_a_terminal_rows_are_wrapped_under_themselves_and_coloured() -> None:
    terminal = Terminal()
    label_table.show(LONG, terminal)
    drawn = terminal.getvalue()
    assert "\x1b[31m" in drawn
    lines = _without_colours(drawn).splitlines()
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[0].startswith("label     word word")
    assert lines[1].startswith("          word word")


def test_a_command_stays_one_line_to_be_copied() -> None:
    terminal = Terminal()
    label_table.show(LONG, terminal)
    assert _without_colours(terminal.getvalue()).splitlines()[-1] == "to go on  process " + "x" * 100


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    label_table.show(LONG, terminal)
    assert "\x1b[31m" not in terminal.getvalue()


def test_square_brackets_of_a_message_are_no_markup() -> None:
    terminal = Terminal()
    label_table.show([LabelRow("failed", "[red]not[/red] :smile:")], terminal)
    assert "[red]not[/red] :smile:" in _without_colours(terminal.getvalue())


def test_a_log_gets_whole_lines_without_escape_codes(capsys: pytest.CaptureFixture[str]) -> None:
    label_table.show(LONG)
    assert capsys.readouterr().err == label_table.plain(LONG)
    assert "\x1b" not in label_table.plain(LONG)
    assert len(label_table.plain(LONG).splitlines()) == 3


def test_an_error_is_one_line_that_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_error("no key", "set OPENAI_API_KEY")
    console.print_error("no such file:\n\x1b[2Jjobs.jsonl")
    assert capsys.readouterr().err == "error: no key: set OPENAI_API_KEY\nerror: no such file: �[2Jjobs.jsonl\n"


def test_an_error_is_red_on_a_terminal() -> None:
    terminal = Terminal()
    console.print_error("no key", "x" * 100, terminal)
    assert "\x1b[1;31m" in terminal.getvalue()
    assert _without_colours(terminal.getvalue()) == f"error: no key: {'x' * 100}\n"


def test_a_dumb_terminal_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not console.is_terminal(Terminal())


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "full"), ValueError("closed")])
def test_a_reader_that_went_away_stops_nothing(error: Exception) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise error

        def flush(self) -> None:
            raise error

        def isatty(self) -> bool:
            return True

    label_table.show(LONG, Gone())
    console.print_error("no key", stream=Gone())


def test_a_closed_stderr_is_no_terminal() -> None:
    closed = Terminal()
    closed.close()
    closed.isatty = io.StringIO.isatty.__get__(closed)  # type: ignore[method-assign]
    label_table.show(LONG, closed)


def _without_colours(text: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)
