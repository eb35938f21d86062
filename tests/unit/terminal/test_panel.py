"""The panel: what stands on the terminal in each state of a run and at each size."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from processor.core.events import (
    BottleneckChanged,
    ConcurrencyChanged,
    Notice,
    OutageStarted,
    RunEvent,
    RunStarted,
    Stopping,
)
from processor.core.worker_events import WorkerEnded
from processor.stats.run_stats import RunStats
from processor.terminal.live import LivePanel
from processor.terminal.panel_recorder import EndpointUse, PanelContext, PanelRecorder, RequestInFlight, RunDetails
from tests.support.progress_output import half_a_run, output_of
from tests.support.run_events import attempt_failed
from tests.support.terminal import FakeTerminal, screen_of

CONTEXT = PanelContext(
    source="jobs.jsonl",
    destination="api.openai.com",
    key_from="OPENAI_API_KEY",
    concurrency=64,
    max_outage_s=6 * 3600.0,
)

SetSize = Callable[[int, int], None]


@pytest.fixture
def set_size(monkeypatch: pytest.MonkeyPatch) -> SetSize:
    def set_to(columns: int, rows: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(rows))

    set_to(80, 24)
    return set_to


def panel_of(
    *events: RunEvent,
    columns: int = 80,
    rows: int = 24,
    context: PanelContext = CONTEXT,
    prepare: Callable[[RunStats, RunDetails], None] = lambda stats, details: None,
    is_closed: bool = False,
) -> list[str]:
    """The lines on a terminal that was empty, 1.4 s after the last event."""
    text = output_of("panel", FakeTerminal(), 1.4, *events, context=context, prepare=prepare, is_closed=is_closed)
    lines = screen_of(text, columns, rows).visible
    while lines and not lines[-1]:
        lines.pop()
    return lines


def with_workers(stats: RunStats, details: RunDetails) -> None:
    stats.in_flight_by_worker = lambda: {"worker 1": 30, "worker 3": 34}
    stats.workers.append(
        WorkerEnded(at=1.0, worker="worker 2", node="n", requests=3, lost_requests=32, reason="it was killed")
    )


def test_panel_shows_the_workers(set_size: SetSize) -> None:
    for columns, rows, label in ((80, 24, "workers     "), (160, 48, "workers      ")):
        set_size(columns, rows)
        shown = panel_of(*half_a_run(-100.0), columns=columns, rows=rows, prepare=with_workers)
        assert any(label + "2, with 30, 34 in flight; 1 lost" in line for line in shown)


@pytest.mark.usefixtures("set_size")
def test_panel_at_80_columns() -> None:
    assert panel_of(*half_a_run(-100.0, cost_usd=0.01)) == [
        "jobs.jsonl to api.openai.com                                     running 1m 41s",
        "━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━───────────────────────────────  999/2,000   50%",
        "ends at about 12:01, 1m 58s left                        9.99 of about 19.99 USD",
        "",
        "            last 30 seconds                      now      limit",
        "requests                                ██       487    500 RPM   97%",
        "tokens                                  ██      195k   200k TPM   97%  bound by",
        "in flight                               ██        64         64  100%",
        "",
        "first token 0.42 s median, 0.42 s p95",
        "whole reply 4.1 s median, 4.1 s p95, 27 tokens/s",
        "tokens      899k prompt + 100k completion",
        "failed      1: 1 timeout",
        "retried     none",
    ]


def test_panel_at_60_columns_leaves_the_limits_out(set_size: SetSize) -> None:
    set_size(60, 20)
    lines = panel_of(*half_a_run(-100.0), columns=60, rows=20)
    assert lines[4:8] == [
        "            last 21 seconds             now",
        "requests                       ██       487   97%",
        "tokens                         ██      195k   97%  bound by",
        "in flight                      ██        64  100%",
    ]
    assert len(lines) == 14


@pytest.mark.parametrize(("columns", "rows"), [(59, 24), (80, 15)])
def test_small_terminal_gets_two_lines(columns: int, rows: int, set_size: SetSize) -> None:
    set_size(columns, rows)
    lines = panel_of(*half_a_run(-100.0), columns=columns, rows=rows)
    assert len(lines) == 2
    assert "999/2,000  50%" in lines[0]


@pytest.mark.parametrize(("columns", "rows"), [(150, 36), (200, 50)])
def test_large_terminal_gets_charts_and_tables(columns: int, rows: int, set_size: SetSize) -> None:
    set_size(columns, rows)

    def prepare(stats: RunStats, details: RunDetails) -> None:
        details.oldest_requests = lambda count: [RequestInFlight(custom_id="old", line=7, attempt=2, started_at=-47.0)]

    events = [*half_a_run(-100.0, cost_usd=0.01), Notice(at=0.0, text="limits of the server: 500 RPM")]
    lines = panel_of(*events, columns=columns, rows=rows, prepare=prepare)
    text = "\n".join(lines)
    for part in (
        "jobs.jsonl to api.openai.com, key from OPENAI_API_KEY",
        "requests a minute: 487 of 500, 97%",
        "tokens a minute: 195k of 200k, 97%   bound by tokens (",
        "   500 ┤",
        "  200k ┤",
        "in flight: 64 of 64, 100%",
        "seconds to the whole reply: 4.1 median, 4.1 p95, 4.1 the longest",
        "     999      0   899k   100k    9.99    0.42 s       27    old",
        "         7        2     48 s",
        "12:00:00  limits of the server: 500 RPM",
        "failed       1: 1 timeout",
        "9.99 of about 19.99 USD",
    ):
        assert part in text
    assert max(map(len, lines)) <= min(columns - 1, 196)
    assert len(lines) < rows
    assert lines[:2] == ["limits of the server: 500 RPM", ""], "the panel stands below what was printed"


@pytest.mark.usefixtures("set_size")
def test_last_state_stays() -> None:
    lines = panel_of(*half_a_run(-100.0), is_closed=True)
    assert (lines[0].split()[-3:], lines[2]) == (["ran", "1m", "40s"], "ended at 12:00")
    assert len(lines) == 14
    lines = panel_of(*half_a_run(-100.0), Stopping(at=0.0, reason="interrupted (Ctrl-C)"), is_closed=True)
    assert lines[5] == "stopped at 12:00: interrupted (Ctrl-C)"


@pytest.mark.usefixtures("set_size")
def test_last_state_of_a_run_that_did_nothing_is_removed() -> None:
    assert panel_of(RunStarted(at=-60.0, jobs=10, done=0), is_closed=True) == []
    assert panel_of(*half_a_run(-0.1), is_closed=True) == [], "it took less than two seconds"


def head_of(*events: RunEvent, next_at: float | None = None, oldest_at: float | None = None) -> list[str]:
    """The third and fourth line, and what was printed above left out."""

    def prepare(stats: RunStats, details: RunDetails) -> None:
        stats.next_start_at = lambda: next_at
        if oldest_at is not None:
            oldest = RequestInFlight(custom_id="a", line=1, attempt=1, started_at=oldest_at)
            details.oldest_requests = lambda count: [oldest]

    lines = panel_of(*events, prepare=prepare)
    at = next(at for at, line in enumerate(lines) if line.startswith("jobs.jsonl to"))
    return lines[at + 2 : at + 4]


OUTAGE = (
    BottleneckChanged(at=0.0, bottleneck="outage"),
    OutageStarted(at=-372.0, endpoint="https://api.openai.com/v1", message="503"),
)


@pytest.mark.usefixtures("set_size")
def test_outage_is_shown_with_its_countdown_and_money() -> None:
    assert head_of(*half_a_run(-500.0, cost_usd=0.01), *OUTAGE, next_at=42.4) == [
        "OUTAGE since 11:53 (6m 13s). Next probe in 41 s. 503",
        "waits until 17:53, then stops; no job is blamed         9.99 of about 19.99 USD",
    ]


@pytest.mark.usefixtures("set_size")
@pytest.mark.parametrize(
    ("events", "next_at", "oldest_at", "expected"),
    [
        ([BottleneckChanged(at=0.0, bottleneck="cool_down")], 31.0, None, "COOL-DOWN as the server asked: the next"),
        ([BottleneckChanged(at=0.0, bottleneck="input")], None, None, ", waiting for jobs"),
        ([BottleneckChanged(at=0.0, bottleneck="requests")], 31.0, None, " left, the next request in 30 s"),
        (
            [
                BottleneckChanged(at=0.0, bottleneck="input"),
                attempt_failed("rate_limited", at=0.0, custom_id="job-0", retry_delay_s=31.3),
            ],
            None,
            None,
            "BACK-OFF before further attempts: the next request in 30 s",
        ),
        ([Stopping(at=0.0, reason="quota", grace_s=30.0)], None, -5.0, "STOPPING: quota"),
    ],
)
def test_what_is_in_the_way_is_shown(
    events: list[RunEvent], next_at: float | None, oldest_at: float | None, expected: str
) -> None:
    assert expected in head_of(*half_a_run(-100.0), *events, next_at=next_at, oldest_at=oldest_at)[0]


@pytest.mark.usefixtures("set_size")
def test_stopping_run_says_what_it_waits_for_and_how_long() -> None:
    events = [*half_a_run(-100.0), Stopping(at=0.0, reason="quota", grace_s=30.0)]
    assert head_of(*events)[1] == "waiting at most 29 s for 64 requests; Ctrl-C aborts them"


@pytest.mark.usefixtures("set_size")
def test_run_that_waits_for_the_last_replies_says_so() -> None:
    events = [*half_a_run(-100.0)]
    started = RunStarted(at=-100.0, jobs=1010, done=0)
    assert head_of(started, *events[1:], oldest_at=-47.0)[0] == "waiting for the last 64 replies, the oldest for 48 s"


@pytest.mark.usefixtures("set_size")
def test_start_of_a_run_is_no_forecast() -> None:
    assert head_of(RunStarted(at=0.0, jobs=10, done=0))[0] == "starting"


@pytest.mark.usefixtures("set_size")
def test_found_concurrency_is_the_limit_of_requests_in_flight() -> None:
    events = [ConcurrencyChanged(at=0.0, limit_group=group, limit=40, reason="") for group in ("a", "b")]
    assert panel_of(*half_a_run(-100.0), *events)[7].split()[-3:] == ["64", "80", "80%"]


@pytest.mark.usefixtures("set_size")
def test_failures_and_retries_are_counted_by_kind() -> None:
    retries = [attempt_failed("rate_limited", at=-1.0, status=429) for _ in range(2)]
    retries.append(attempt_failed("stream_truncated", at=-1.0))
    lines = panel_of(*half_a_run(-100.0), *retries)
    assert lines[-1] == "retried     3: 2 rate_limited, 1 stream_truncated"


@pytest.mark.usefixtures("set_size")
def test_each_of_several_endpoints_has_its_state() -> None:
    uses = [
        EndpointUse(name="openai", requests=12_004, in_flight=12),
        EndpointUse(name="azure", requests=2, in_flight=1, down_since=-60.0, next_probe_at=31.0),
        EndpointUse(name="spare", requests=0, in_flight=0, stopped="the key is refused (401)"),
    ]

    def prepare(stats: RunStats, details: RunDetails) -> None:
        details.endpoints = lambda: uses

    lines = panel_of(*half_a_run(-100.0), prepare=prepare)
    assert lines[-4:] == [
        "",
        "openai   12,004 sent     12 in flight  answers",
        "azure         2 sent      1 in flight  down since 11:59, next probe in 30 s",
        "spare         0 sent      0 in flight  stopped: the key is refused (401)",
    ]


def test_money_names_the_replies_without_a_price(set_size: SetSize) -> None:
    priced, unpriced = half_a_run(-100.0, cost_usd=0.01), half_a_run(-100.0)
    assert panel_of(*priced, *unpriced[2:3])[2].endswith("  9.99 USD without 1 reply")


def test_money_of_a_budget_counts_earlier_runs(set_size: SetSize) -> None:
    def prepare(stats: RunStats, details: RunDetails) -> None:
        stats.budget = lambda: (12.99, 34.02)

    lines = panel_of(*half_a_run(-100.0, cost_usd=0.01), prepare=prepare)
    assert lines[2].endswith("12.99 of 34.02 USD budget, about 22.99 in all")


def test_frame_without_news_writes_the_running_time_only(set_size: SetSize) -> None:
    """Numbers that have not changed are not written again."""
    stream = FakeTerminal()
    writes: list[str] = []
    write = stream.write
    stream.write = lambda text: writes.append(text) or write(text)  # type: ignore[method-assign,func-returns-value]
    output_of("panel", stream, 0.9, RunStarted(at=0.0, jobs=10, done=0), context=CONTEXT)
    assert len(writes) == 3, "one write for each picture, and the last state"
    assert len(writes[0]) > 700
    assert len(writes[1]) < 300


def test_without_colours_only_bold_and_faint_text_is_used(set_size: SetSize, monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = output_of("panel", FakeTerminal(), 1.4, *half_a_run(-100.0), *OUTAGE, context=CONTEXT)
    assert "\x1b[36m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    plain = output_of("panel", FakeTerminal(), 1.4, *half_a_run(-100.0), *OUTAGE, context=CONTEXT)
    assert {code.split("m")[0] for code in plain.split("\x1b[")[1:] if code[0].isdigit() and "m" in code[:5]} <= {
        *("0", "1", "2")
    }


def test_terminal_without_unicode_gets_ascii(set_size: SetSize) -> None:
    class Ascii(FakeTerminal):
        encoding = "iso-8859-1"

    context = PanelContext(source="jöbs.jsonl", destination="api.openai.com", concurrency=64)
    text = output_of("panel", Ascii(), 1.4, *half_a_run(-100.0), context=context, is_closed=False)
    assert text.isascii()
    lines = screen_of(text).visible
    assert lines[0].startswith("j?bs.jsonl to")
    assert lines[1].startswith("####") and "----  999/2,000" in lines[1]
    assert "##" in lines[7]


def test_wide_characters_in_the_name_of_the_job_file_move_nothing(set_size: SetSize) -> None:
    context = PanelContext(source="会話" * 30 + ".jsonl", destination="api.openai.com")
    text = output_of("panel", FakeTerminal(), 0.4, RunStarted(at=0.0, jobs=1, done=0), context=context, is_closed=False)
    first = text.split("\r")[1]
    from rich.cells import cell_len

    from tests.support.terminal import without_escape_codes

    assert cell_len(without_escape_codes(first)) == 79
    assert "…" in first


def test_text_from_outside_cannot_control_the_terminal(set_size: SetSize) -> None:
    set_size(200, 50)
    hostile = "\x1b[2J\x9b5A\u202ename\x07"

    def prepare(stats: RunStats, details: RunDetails) -> None:
        oldest = RequestInFlight(custom_id=hostile, line=1, attempt=1, started_at=0.0)
        details.oldest_requests = lambda count: [oldest]
        details.endpoints = lambda: [EndpointUse(name=hostile, requests=1, in_flight=0, stopped=hostile)] * 2

    events = [*half_a_run(-100.0), Stopping(at=0.0, reason=hostile), Notice(at=0.0, text=hostile)]
    context = PanelContext(source=hostile, destination=hostile)
    text = output_of("panel", FakeTerminal(), 1.4, *events, context=context, prepare=prepare)
    assert "name" in text
    assert not {"\x9b", "\x07", "\u202e"} & set(text)
    assert "\x1b[2J" not in text


@pytest.mark.usefixtures("set_size")
def test_cool_down_puts_the_end_off() -> None:
    events = [*half_a_run(-100.0), BottleneckChanged(at=0.0, bottleneck="cool_down")]
    assert head_of(*events, next_at=61.3) == [
        "COOL-DOWN as the server asked: the next request in 1m 00s",
        "ends at about 12:02, 2m 58s left",
    ]


def shown_at(*times: float) -> list[str]:
    """The lines on a terminal after pictures at these times."""
    stream = FakeTerminal()
    stats = RunStats()
    stats(RunStarted(at=0.0, jobs=10, done=0))
    panel = LivePanel(stream, PanelRecorder(stats, CONTEXT, RunDetails()), lambda: 0.0)
    for at in times:
        panel.show(at)
    return screen_of(stream.getvalue(), height=60).visible


@pytest.mark.usefixtures("set_size")
def test_panel_of_a_run_that_was_suspended_comes_below_what_the_shell_has_written() -> None:
    def titles(lines: list[str]) -> int:
        return sum(line.startswith("jobs.jsonl to") for line in lines)

    assert titles(shown_at(1.0, 1.5, 2.0)) == 1
    assert titles(shown_at(1.0, 1.5, 60.0)) == 2


@pytest.mark.usefixtures("set_size")
def test_nothing_is_drawn_while_the_program_is_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.terminal.console.is_in_foreground", lambda stream: False)
    assert shown_at(1.0, 1.5) == [""]
