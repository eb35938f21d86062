"""The history as a report reads it: sums over runs, and lines of any kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from processor.output.paths import OutputPaths
from processor.report.data import ReportOptions
from processor.report.make_report import make_report
from processor.report.run_history import MAX_PERIODS, periods_of, read_runs
from processor.report.run_state import state_of
from processor.report.status_text import status_json, status_rows
from processor.terminal.label_table import LabelRow
from tests.support.report_rows import reply_row, write_rows


def header(run: str) -> dict[str, Any]:
    command = "process jobs.jsonl --out r.jsonl"
    return {"run": run, "version": "1", "started_at": "2026-01-01T00:00:00+00:00", "command": command, "settings": {}}


def minute(run: str, number: int, **changed: Any) -> dict[str, Any]:
    return {
        "run": run,
        "time": f"2026-01-01T{number // 60:02}:{number % 60:02}:00+00:00",
        "seconds": 60.0,
        "requests": 30,
        "tokens": {"reserved": 600},
        "limits": {"a": {"rpm": 60, "tpm": 1000}},
        "bound_by_s": {"requests": 45.0, "nothing": 15.0},
        "refused": {"rate_limited": 1},
        "retried": {"rate_limited": 1},
        **changed,
    }


def write(path: Path, lines: list[Any], end: str = "") -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + end)
    return path


def test_many_minutes_are_merged_with_the_same_sums(tmp_path: Path) -> None:
    lines = [header("a"), *(minute("a", number) for number in range(1, 1000))]
    runs = read_runs(write(tmp_path / "h.jsonl", lines, end='{"run": "a", "ti'))
    periods = periods_of(runs)
    assert len(runs[0].periods) == 999
    assert len(periods) <= MAX_PERIODS
    assert sum(period.requests for period in periods) == 30 * 999
    assert sum(period.refused["rate_limited"] for period in periods) == 999


def test_lines_of_any_kind_are_read(tmp_path: Path) -> None:
    odd = [
        {"run": "a", "started_at": 7},
        {"run": "a", "time": "never"},
        {"run": "b", "time": "2026-01-01T00:00:00+00:00"},
        {"run": "a", "time": "2026-01-01T00:00:00+00:00", "limits": [1], "tokens": None, "notices": {"x": 1}},
    ]
    (run,) = read_runs(write(tmp_path / "h.jsonl", odd))
    (period,) = run.periods
    assert (period.requests, period.rpm, period.notices) == (0, None, ())
    assert read_runs(tmp_path / "none.jsonl") == []


def test_page_shows_limits_refusals_and_the_command_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.report.assets.find_spec", lambda name: None)  # charts take seconds
    results = write_rows(tmp_path / "r.jsonl", [reply_row(1)])
    notice = minute("a", 2, notices=["<b>a notice</b>"], outages={"https://e": "503 from all"})
    write(tmp_path / "r.history.jsonl", [header("a"), minute("a", 1), notice])
    make_report(results, tmp_path / "page.html", ReportOptions())
    page = (tmp_path / "page.html").read_text()
    for text in (
        "The request limit (dashed) was used to 50%",
        "The token limit (dashed) was used to 60%",
        "request limit 75%",
        "&lt;b&gt;a notice",
        "outage at https://e: 503 from all",
    ):
        assert text in page
    make_report(results, tmp_path / "page.html", ReportOptions(with_messages=False))
    assert "503 from all" not in (tmp_path / "page.html").read_text()


def test_status_tells_the_workers_of_the_last_minute(tmp_path: Path) -> None:
    workers = {"in_flight": {"worker 1": 30, "worker 3": 34}, "lost": 1}
    paths = OutputPaths.of(tmp_path / "r.jsonl")
    write(paths.history, [header("a"), minute("a", 1), minute("a", 2, workers=workers)])
    state = state_of(paths, 0.0)
    assert LabelRow("workers", "2, with 30, 34 in flight; 1 lost") in status_rows(state)
    told = status_json(state)["last_minute"]
    assert (told["in_flight_by_worker"], told["lost_workers"]) == (workers["in_flight"], 1)
    write(paths.history, [header("a"), minute("a", 1)])
    assert "workers" not in [row.label for row in status_rows(state_of(paths, 0.0))]
