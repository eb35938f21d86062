"""Progress of a run: in a log, and on a terminal."""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from processor.core.events import (
    BottleneckChanged,
    LimitsChanged,
    Notice,
    OutageContinues,
    OutageEnded,
    OutageStarted,
    RunEvent,
    RunStarted,
    Stopping,
)
from processor.simulator.virtual_clock import run
from processor.stats.run_stats import RunStats
from processor.terminal import status_line
from processor.terminal.progress import Mode, Progress, ProgressChoice, choose_mode
from processor.terminal.status_line import Detail, fit_width
from tests.support.progress_output import half_a_run, output_of
from tests.support.terminal import FakeTerminal, without_escape_codes

MESSAGE_MODES: tuple[Mode, ...] = ("log", "notices")


# ---------------------------------------------------------------- in a log


def log_of(for_s: float, *events: RunEvent) -> list[str]:
    """The lines of a log without their dates and time zones: ``12:00:10 0/10 done (0%), ...``."""
    lines = output_of("log", io.StringIO(), for_s, *events).splitlines()
    assert all(re.match(r"2026-11-29T\d\d:\d\d:\d\d[+-]\d\d:\d\d ", line) for line in lines)
    return [re.sub(r"^.{10}T(.{8})\S+", r"\1", line) for line in lines]


def test_log_gets_a_status_line_after_ten_seconds_and_later_every_minute() -> None:
    lines = log_of(400.0, RunStarted(at=0.0, jobs=10, done=0))
    times = [line.split()[0].removeprefix("12:") for line in lines]
    assert times == ["00:10", "00:25", "00:47", "01:21", "02:11", "03:11", "04:11", "05:11", "06:11"]


def test_status_line_in_a_log_is_complete_and_has_no_escape_codes() -> None:
    assert log_of(11.0, *half_a_run(-90.0)) == [
        "12:00:10 999/2,000 done (50%), 1 failed, 64 in flight, RPM 487/500, TPM 195k/200k, 999k tokens, "
        "limited by tokens, 1m 58s left, ends at about 12:02"
    ]


def test_status_line_of_batches_tells_neither_speed_nor_end() -> None:
    stats = RunStats()
    stats.in_batches = True
    for event in half_a_run(-90.0):
        stats(event)
    text = status_line.log_text(stats, 10.0, 0.0)
    assert "999/2,000 done (50%), 1 failed, 999k tokens" in text
    assert not any(word in text for word in ("in flight", "RPM", "TPM", "left", "ends at"))


def test_notice_is_printed_at_once_on_one_line() -> None:
    assert log_of(1.0, Notice(at=0.0, text="the provider\nis down")) == ["12:00:00 the provider is down"]
    assert output_of("notices", io.StringIO(), 1.0, Notice(at=0.0, text="the provider\nis down")) == (
        "the provider is down\n"
    )


def test_log_gets_a_status_line_at_each_change_of_state() -> None:
    events: list[RunEvent] = [
        OutageStarted(at=1.0, endpoint="a", message="503"),
        OutageEnded(at=2.0, endpoint="a"),
        Stopping(at=3.0, reason="quota"),
    ]
    lines = [
        line.partition(" ")[2].partition(",")[0] for line in log_of(1.0, RunStarted(at=0.0, jobs=4, done=2), *events)
    ]
    status = "2/4 done (50%)"
    down = "the provider is down: 503; probing until it is back"
    assert lines == [down, status, "the provider is back", status, "stopping: quota", status]


@pytest.mark.parametrize(("wait_s", "lines"), [(4.0, 0), (40.0, 2)])
def test_log_gets_a_status_line_where_a_long_cool_down_begins_and_ends(wait_s: float, lines: int) -> None:
    async def main() -> str:
        stream, stats = io.StringIO(), RunStats()
        stats.next_start_at = lambda: wait_s
        with Progress(stats, "log", stream) as progress:
            for bottleneck in ("requests", "cool_down", "requests", "tokens"):
                event = BottleneckChanged(at=0.0, bottleneck=bottleneck)
                stats(event)
                progress(event)
        return stream.getvalue()

    assert run(main()).count("limited by") == lines


def test_stopping_message_gives_the_reason_and_the_requests_in_flight() -> None:
    text = output_of("notices", io.StringIO(), 100.0, *half_a_run(), Stopping(at=100.0, reason="interrupted"))
    assert text == "stopping: interrupted; waiting for 64 requests in flight, Ctrl-C or SIGTERM aborts them\n"
    assert output_of("notices", io.StringIO(), 1.0, Stopping(at=0.0, reason="quota")) == "stopping: quota\n"
    at_once = output_of(
        "notices", io.StringIO(), 100.0, *half_a_run(), Stopping(at=100.0, reason="no room", grace_s=0.0)
    )
    assert at_once.endswith("stopping: no room\n"), "there is no grace period"


def test_mode_nothing_prints_nothing() -> None:
    assert (
        output_of(
            "nothing", io.StringIO(), 100.0, *half_a_run(), Stopping(at=1.0, reason="x"), Notice(at=1.0, text="x")
        )
        == ""
    )


def test_nothing_is_drawn_after_the_run() -> None:
    async def main() -> str:
        stream = io.StringIO()
        with Progress(RunStats(), "log", stream):
            pass
        await asyncio.sleep(100)
        return stream.getvalue()

    assert run(main()) == ""


@pytest.mark.parametrize(
    ("choice", "quiet", "stream", "expected"),
    [
        ("auto", False, FakeTerminal, "panel"),
        ("auto", False, io.StringIO, "log"),
        ("panel", False, FakeTerminal, "panel"),
        ("panel", False, io.StringIO, "log"),
        ("line", False, FakeTerminal, "line"),
        ("line", False, io.StringIO, "log"),
        ("log", False, FakeTerminal, "log"),
        ("none", False, FakeTerminal, "notices"),
        ("auto", True, FakeTerminal, "nothing"),
        ("none", True, io.StringIO, "nothing"),
    ],
)
def test_mode_depends_on_flags_and_on_the_stream(
    choice: ProgressChoice, quiet: bool, stream: Callable[[], io.StringIO], expected: Mode
) -> None:
    assert choose_mode(choice, quiet=quiet, stream=stream()) == expected


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [("TERM", "dumb", "log"), ("ACCESSIBLE", "1", "log"), ("ACCESSIBLE", "0", "panel"), ("NO_COLOR", "1", "panel")],
)
def test_mode_depends_on_the_environment(
    variable: str, value: str, expected: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert choose_mode("auto", quiet=False, stream=FakeTerminal()) == expected
    assert choose_mode("panel", quiet=False, stream=FakeTerminal()) == expected


def test_terminal_that_is_shared_with_jobs_or_results_is_redrawn_only_if_asked() -> None:
    assert choose_mode("auto", quiet=False, is_shared=True, stream=FakeTerminal()) == "log"
    assert choose_mode("panel", quiet=False, is_shared=True, stream=FakeTerminal()) == "panel"


# ---------------------------------------------------------------- on a terminal


def drawn(columns: int, monkeypatch: pytest.MonkeyPatch, *events: RunEvent) -> list[str]:
    """The two live lines as they were last drawn."""
    monkeypatch.setenv("COLUMNS", str(columns))
    text = without_escape_codes(output_of("line", FakeTerminal(), 10.1, *events))
    return [line.strip("\r") for line in text.rstrip().splitlines()][-2:]


@pytest.mark.parametrize(
    ("columns", "details"),
    [
        (120, "1 failed · 64 in flight · RPM 487/500 · TPM 195k/200k · 999k tokens · limited by tokens"),
        (80, "1 failed · 64 in flight · RPM 487/500 · TPM 195k/200k · limited by tokens"),
        (60, "1 failed · 64 in flight · RPM 487/500 · TPM 195k/200k"),
        (40, "1 failed · RPM 487/500 · TPM 195k/200k"),
    ],
)
def test_live_lines_fit_the_width_of_the_terminal(columns: int, details: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bar, below = drawn(columns, monkeypatch, *half_a_run(-90.0))
    assert re.fullmatch(r"━+─+  999/2,000  50%  1m 58s left", bar)
    assert len(bar) == columns - 1
    assert below == details


def test_live_lines_have_no_bar_if_the_number_of_jobs_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, below = drawn(80, monkeypatch, RunStarted(at=0.0, jobs=None, done=0))
    assert (bar, below) == ("0 done", "0 in flight · RPM 0 · TPM 0 · 0 tokens")


def test_live_lines_are_removed_at_the_end() -> None:
    assert output_of("line", FakeTerminal(), 10.0, *half_a_run()).endswith("\x1b[2A\r\x1b[J")


def test_notice_is_printed_above_the_live_lines_without_markup() -> None:
    text = without_escape_codes(
        output_of("line", FakeTerminal(), 1.0, *half_a_run(), Notice(at=1.0, text="[b]an outage[/b]"))
    )
    assert text.index("[b]an outage[/b]") < text.index("999/2,000")


def test_vanished_terminal_does_not_stop_the_run() -> None:
    class Gone(FakeTerminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    for mode in ("panel", "line"):
        output_of(mode, Gone(), 10.0, *half_a_run())


OUTAGE = Detail("outage", "limited by", "warning", 10)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([BottleneckChanged(at=0.0, bottleneck="outage")], OUTAGE),
        ([BottleneckChanged(at=0.0, bottleneck="outage"), BottleneckChanged(at=0.0, bottleneck=None)], None),
        ([BottleneckChanged(at=0.0, bottleneck="in_flight")], Detail("concurrency", "limited by", "", 5)),
        (
            [BottleneckChanged(at=0.0, bottleneck="outage"), Stopping(at=1.0, reason="x")],
            Detail("stopping", "", "warning", 10),
        ),
    ],
)
def test_bottleneck_is_the_last_detail(events: list[RunEvent], expected: Detail | None) -> None:
    stats = RunStats()
    for event in events:
        stats(event)
    last = status_line.details(stats, 1.0)[-1]
    assert last == (expected or Detail("0 tokens", priority=1))


def test_log_gives_no_time_left_in_an_outage() -> None:
    stats = RunStats()
    for event in half_a_run():
        stats(event)
    assert " left, ends at about " in status_line.log_text(stats, 100.0, 1e9)
    stats(BottleneckChanged(at=100.0, bottleneck="outage"))
    text = status_line.log_text(stats, 100.0, 1e9)
    assert "limited by outage" in text
    assert " left" not in text
    assert "ends at" not in text


@pytest.mark.parametrize(
    ("next_at", "rpm", "expected"),
    [
        (None, 60, []),
        (100.4, 60, [Detail("0.40 s", "next request in", priority=6)]),
        (99.0, 60, [Detail("0.00 s", "next request in", priority=6)]),
        (100.4, 600, []),
        (112.0, 600, [Detail("12 s", "next request in", priority=6)]),
        (112.0, None, [Detail("12 s", "next request in", priority=6)]),
    ],
)
def test_wait_for_the_next_request_is_shown(next_at: float | None, rpm: float | None, expected: list[Detail]) -> None:
    stats = RunStats()
    stats(RunStarted(at=0.0, jobs=10, done=0))
    stats(LimitsChanged(at=0.0, limit_group="", rpm=rpm, tpm=None, source="configured"))
    stats.next_start_at = lambda: next_at
    assert [part for part in status_line.details(stats, 100.0) if part.label.startswith("next")] == expected


def test_outage_is_told_each_minute_where_no_status_line_is_shown() -> None:
    event = OutageContinues(at=60.0, endpoint="a", down_s=60.0)
    assert output_of("notices", io.StringIO(), 1.0, event) == "the provider is still down after 1m 00s\n"
    assert output_of("log", io.StringIO(), 1.0, event) == ""
    assert "still down" not in output_of("panel", FakeTerminal(), 1.0, event)


def test_quiet_display_says_warnings_only() -> None:
    events = (Notice(at=0.0, text="a notice"), Notice(at=0.0, text="a warning", is_warning=True))
    assert output_of("nothing", io.StringIO(), 1.0, *events) == "a warning\n"


def test_text_from_outside_cannot_control_the_terminal() -> None:
    text = "model \x1b[31m\x9b2J\u202egpj\u2066 \x07"
    for mode in MESSAGE_MODES:
        said = output_of(mode, io.StringIO(), 1.0, Notice(at=0.0, text=text))
        assert re.fullmatch("[^\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*", said)


def test_fit_width_drops_the_lowest_priority_first_and_keeps_one_detail() -> None:
    every = [Detail("aaaa", priority=2), Detail("bbbb", priority=1), Detail("cccc", priority=3)]
    assert [detail.value for detail in fit_width(every, 18, 3)] == ["aaaa", "bbbb", "cccc"]
    assert [detail.value for detail in fit_width(every, 17, 3)] == ["aaaa", "cccc"]
    assert [detail.value for detail in fit_width(every, 1, 3)] == ["cccc"]


def test_finished_share_of_an_empty_job_file_is_one() -> None:
    stats = RunStats()
    stats(RunStarted(at=0.0, jobs=0, done=0))
    assert status_line.finished_share(stats) == 1.0


@pytest.mark.process
def test_rich_is_not_imported_until_something_is_drawn() -> None:
    code = (
        "import sys, processor.terminal.progress, processor.terminal.summary, processor.terminal.startup_banner, "
        "processor.terminal.echo; processor.terminal.console.print_error('x'); assert 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3], timeout=30)
