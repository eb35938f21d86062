from __future__ import annotations

import asyncio
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from processor.core.events import (
    BottleneckChanged,
    Delta,
    FirstToken,
    JobFinished,
    LimitsChanged,
    Notice,
    RunEvent,
    RunStarted,
    Sent,
    Stopping,
)
from processor.core.models import Failure, Job, Reply, Result, Timing, Usage
from processor.simulator.virtual_clock import run
from processor.stats.run_stats import RunStats
from processor.terminal import status_line
from processor.terminal.echo import Echo
from processor.terminal.progress import Mode, Progress, mode
from processor.terminal.status_line import Detail, fit
from tests.support.run_events import attempt_started, attempt_succeeded


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def a_run(at: float = 0.0) -> list[RunEvent]:
    """2,000 jobs, 1,000 of them done in the first 100 s, one failed, 64 in flight, bound by tokens."""
    usage = Usage(prompt_tokens=900, completion_tokens=100)
    reply = Reply(status_code=200, request_id=None, body={})
    done = Result(fingerprint="f", custom_id="r", line=1, reply=reply, usage=usage)
    failed = Result(fingerprint="f", custom_id="r", line=1, failure=Failure(code="timeout", message="slow"))
    return [
        RunStarted(at=at, jobs=2000, done=0),
        LimitsChanged(at=at, limit_group="", rpm=500, tpm=200_000, source="configured"),
        *(JobFinished(at=at + n / 10, result=done) for n in range(999)),
        JobFinished(at=at + 99.9, result=failed),
        *(attempt_started(at + 95.0, tokens=400) for _ in range(487)),
        *(attempt_succeeded(at + 99.9) for _ in range(423)),
        BottleneckChanged(at=at + 99.9, bottleneck="tokens"),
    ]


def watched(mode: Mode, stream: io.StringIO, for_s: float, *events: RunEvent) -> str:
    """What is written when these events come first, and then nothing more."""

    async def main() -> None:
        tally = RunStats()
        with Progress(tally, mode, stream) as progress:
            for event in events:
                tally(event)
                progress(event)
            await asyncio.sleep(for_s)

    run(main())
    return stream.getvalue()


# ---------------------------------------------------------------- in a log


def test_a_log_gets_a_line_after_ten_seconds_and_later_every_minute() -> None:
    text = watched("lines", io.StringIO(), 400.0, RunStarted(at=0.0, jobs=10, done=0))
    times = [line.partition("]")[0] for line in text.splitlines()]
    assert times == ["[10 s", "[25 s", "[48 s", "[1m 21s", "[2m 12s", "[3m 12s", "[4m 12s", "[5m 12s", "[6m 12s"]


def test_a_line_says_all_that_matters_without_escape_codes() -> None:
    text = watched("lines", io.StringIO(), 11.0, *a_run(-90.0))
    assert text == (
        "[1m 40s] 999/2,000 done (50%), 1 failed, 64 in flight, RPM 487/500, TPM 195k/200k, 999k tokens, "
        "bound by tokens, 1m 58s left\n"
    )


def test_what_should_be_read_once_is_said_at_once() -> None:
    text = watched("lines", io.StringIO(), 1.0, Notice(at=0.0, text="the provider\nis down"))
    assert text == "the provider is down\n"


def test_a_stop_says_why_and_what_is_still_in_flight() -> None:
    text = watched("notices", io.StringIO(), 100.0, *a_run(), Stopping(at=100.0, reason="interrupted"))
    assert text == "stopping: interrupted; 64 requests in flight may still finish, Ctrl-C breaks them off\n"
    assert watched("notices", io.StringIO(), 1.0, Stopping(at=0.0, reason="quota")) == "stopping: quota\n"
    at_once = watched("notices", io.StringIO(), 100.0, *a_run(), Stopping(at=100.0, reason="no room", grace_s=0.0))
    assert at_once.endswith("stopping: no room\n"), "nothing is said of finishing"


def test_quiet_is_quiet() -> None:
    assert (
        watched("nothing", io.StringIO(), 100.0, *a_run(), Stopping(at=1.0, reason="x"), Notice(at=1.0, text="x")) == ""
    )


def test_nothing_is_drawn_once_the_run_is_over() -> None:
    async def main() -> str:
        stream = io.StringIO()
        with Progress(RunStats(), "lines", stream):
            pass
        await asyncio.sleep(100)
        return stream.getvalue()

    assert run(main()) == ""


@pytest.mark.parametrize(
    ("progress", "quiet", "stream", "expected"),
    [
        (True, False, Terminal, "live"),
        (True, False, io.StringIO, "lines"),
        (False, False, Terminal, "notices"),
        (True, True, Terminal, "nothing"),
        (False, True, io.StringIO, "nothing"),
    ],
)
def test_flags_and_place_decide_how_much_is_shown(
    progress: bool, quiet: bool, stream: Callable[[], io.StringIO], expected: Mode
) -> None:
    assert mode(progress=progress, quiet=quiet, stream=stream()) == expected


# ---------------------------------------------------------------- on a terminal


def drawn(columns: int, monkeypatch: pytest.MonkeyPatch, *events: RunEvent) -> list[str]:
    """The lines of the last picture."""
    monkeypatch.setenv("COLUMNS", str(columns))
    text = plain(watched("live", Terminal(), 10.1, *events))
    return [line.strip("\r") for line in text.rstrip().splitlines()][-2:]


@pytest.mark.parametrize(
    ("columns", "details"),
    [
        (120, "1 failed · 64 in flight · RPM 487/500 · TPM 195k/200k · 999k tokens · bound by tokens"),
        (80, "1 failed · 64 in flight · RPM 487/500 · TPM 195k/200k · bound by tokens"),
        (60, "1 failed · 64 in flight · RPM 487/500 · TPM 195k/200k"),
        (40, "1 failed · RPM 487/500 · TPM 195k/200k"),
    ],
)
def test_two_lines_fit_any_width(columns: int, details: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bar, below = drawn(columns, monkeypatch, *a_run(-90.0))
    assert re.fullmatch(r"[━╸╺ ]+  999/2,000  50%  1m 58s left\s*", bar)
    assert len(bar) < columns
    assert below == details


def test_without_a_known_end_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, below = drawn(80, monkeypatch, RunStarted(at=0.0, jobs=None, done=0))
    assert (bar, below) == ("0 done", "0 in flight · RPM 0 · TPM 0 · 0 tokens")


def test_the_picture_is_drawn_a_few_times_a_second_and_gone_at_the_end() -> None:
    text = watched("live", Terminal(), 10.0, *a_run())
    assert 30 <= text.count("999/2,000") <= 45
    # Cursor shown again, and both lines cleared.
    assert text.index("\x1b[?25l") < text.index("\x1b[?25h")
    assert text.endswith("\x1b[1A\x1b[2K")


def test_a_notice_is_said_above_the_live_lines() -> None:
    text = plain(watched("live", Terminal(), 1.0, *a_run(), Notice(at=1.0, text="[b]an outage[/b]")))
    assert text.index("[b]an outage[/b]") < text.index("999/2,000")


def test_a_terminal_that_went_away_does_not_stop_the_run() -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    watched("live", Gone(), 10.0, *a_run())


OUTAGE = Detail("outage", "bound by", "warning", 10)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([BottleneckChanged(at=0.0, bottleneck="outage")], OUTAGE),
        ([BottleneckChanged(at=0.0, bottleneck="outage"), BottleneckChanged(at=0.0, bottleneck=None)], None),
        ([BottleneckChanged(at=0.0, bottleneck="in_flight")], Detail("in flight", "bound by", "", 5)),
        (
            [BottleneckChanged(at=0.0, bottleneck="outage"), Stopping(at=1.0, reason="x")],
            Detail("stopping", "", "warning", 10),
        ),
    ],
)
def test_what_holds_the_run_back_stands_last(events: list[RunEvent], expected: Detail | None) -> None:
    tally = RunStats()
    for event in events:
        tally(event)
    last = status_line.details(tally, 1.0)[-1]
    assert last == (expected or Detail("0 tokens", keep=1))


def test_the_least_important_goes_first_and_one_always_stays() -> None:
    every = [Detail("aaaa", keep=2), Detail("bbbb", keep=1), Detail("cccc", keep=3)]
    assert [detail.value for detail in fit(every, 18, 3)] == ["aaaa", "bbbb", "cccc"]
    assert [detail.value for detail in fit(every, 17, 3)] == ["aaaa", "cccc"]
    assert [detail.value for detail in fit(every, 1, 3)] == ["cccc"]


def test_an_empty_job_file_is_all_settled() -> None:
    tally = RunStats()
    tally(RunStarted(at=0.0, jobs=0, done=0))
    assert status_line.share(tally) == 1.0


@pytest.mark.process
def test_rich_is_imported_only_where_something_is_drawn() -> None:
    code = (
        "import sys, processor.terminal.progress, processor.terminal.summary, processor.terminal.startup_banner, "
        "processor.terminal.echo; processor.terminal.console.print_error('x'); assert 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3], timeout=30)


# ---------------------------------------------------------------- echo

JOB = Job(line=1, custom_id="r-1", fingerprint="f", path="/v1/chat/completions", model="m", body={})


def result(body: dict[str, Any] | None = None, failure: Failure | None = None, **more: Any) -> Result:
    reply = Reply(status_code=200, request_id=None, body=body or {})
    return Result(fingerprint="f", custom_id="r-1", line=1, reply=reply, failure=failure, **more)


def echoed(*steps: Any, stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    echo = Echo(stream)
    echo.begin(JOB)
    for step in steps[:-1]:
        echo.tell(step)
    echo.end(steps[-1])
    return stream.getvalue()


def test_a_reply_is_printed_as_it_streams_with_its_times() -> None:
    timing = Timing(started_at="", queued_s=0.0, first_token_s=0.31, total_s=2.4)
    usage = Usage(prompt_tokens=9, completion_tokens=2)
    ended = result(timing=timing, usage=usage)
    text = echoed(Sent(0.0), FirstToken(0.3), Delta("Good "), Delta("night."), ended)
    assert text == "── r-1\nGood night.\n── 0.31 s to the first token · 2.4 s in all · 2 tokens\n\n"


def test_a_reply_that_ends_its_line_gets_no_second_end() -> None:
    assert echoed(Delta("Good night.\n"), Delta(""), result()) == "── r-1\nGood night.\n── \n\n"


def test_an_attempt_that_broke_off_is_told_from_the_next() -> None:
    text = echoed(Sent(0.0), Delta("Goo"), Sent(1.0), Delta("Good"), result())
    assert text == "── r-1\nGoo\nbroke off, sent again\nGood\n── \n\n"


def test_a_failed_job_says_why() -> None:
    text = echoed(Sent(0.0), result(failure=Failure(code="timeout", message="no byte\nfor 600 s")))
    assert text == "── r-1\nfailed: timeout: no byte for 600 s\n\n"


def test_a_reply_that_did_not_stream_is_printed_whole() -> None:
    timing = Timing(started_at="", queued_s=0.0, first_token_s=None, total_s=2.4)
    text = echoed(Sent(0.0), result({"choices": [{"message": {"content": "Hi."}}]}, timing=timing))
    assert text == "── r-1\nHi.\n── 2.4 s in all\n\n"


def test_what_a_model_writes_cannot_control_the_terminal() -> None:
    terminal = Terminal()
    text = echoed(Delta("\x1b[2J\x07ok"), result(), stream=terminal)
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert plain(text) == "── r-1\n�[2J�ok\n── \n\n"
