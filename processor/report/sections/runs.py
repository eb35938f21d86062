"""The runs that made up the output, their notices and outages, and the settings of the last one. From the history."""

from __future__ import annotations

from collections.abc import Iterator

from processor.core.money import dollars
from processor.core.text import one_line
from processor.report.chart import clock
from processor.report.data import ReportData, Section
from processor.report.html import Html, element
from processor.report.run_history import RunRecord
from processor.report.table import Number, definitions, number, table, text
from processor.terminal.formatting import duration

MAX_NOTICES = 300
MAX_RUNS = 200
MAX_NOTICE_CHARS = 300


def runs_section(data: ReportData) -> Section | None:
    if not data.runs:
        return None
    notices = [notice for run in data.runs for notice in _notices(run)]
    content = [_runs(data)]
    if notices:
        content.append(_notice_table(notices, with_messages=data.options.with_messages))
    content.append(_settings(data.runs[-1]))
    return Section(name="runs", title="Runs, notices and settings", content=tuple(content))


def _runs(data: ReportData) -> Html:
    columns = (
        *(text("begin"), number("took"), number("replies"), number("failed"), number("requests")),
        *(number("cost"), text("command")),
    )
    rows = [
        (
            clock(run.started_at),
            Number(shown=duration(max(run.end - run.started_at, 0.0)), value=run.end - run.started_at),
            sum(period.done for period in run.periods),
            sum(period.failed for period in run.periods),
            sum(period.requests for period in run.periods),
            dollars(sum(costs))
            if (costs := [period.cost_usd for period in run.periods if period.cost_usd is not None])
            else "unknown",
            element("code", one_line(run.command)),
        )
        for run in data.runs[-MAX_RUNS:]
    ]
    return table("The runs of this output; one that was killed is counted to its last full minute", columns, rows)


def _notices(run: RunRecord) -> Iterator[tuple[float, str]]:
    before: set[str] = set()
    for period in run.periods:
        for endpoint, message in period.outages.items():
            if endpoint not in before:
                yield period.end, f"outage at {endpoint}: {message}"
        before = set(period.outages)
        yield from ((period.end, notice) for notice in period.notices)


def _notice_table(notices: list[tuple[float, str]], *, with_messages: bool) -> Html:
    shown = notices[:MAX_NOTICES]
    caption = "Notices and outages, to the minute"
    if len(notices) > len(shown):
        caption += f"; the first {len(shown)} of {len(notices):,}"
    if not with_messages:
        return table(f"{caption}, without their texts", (text("until"),), [(clock(at),) for at, _ in shown])
    columns = (text("until"), text("notice"))
    return table(caption, columns, [(clock(at), one_line(notice, MAX_NOTICE_CHARS)) for at, notice in shown])


def _settings(run: RunRecord) -> Html:
    limits = {name: value for name, value in run.limits.items() if name != "models"}
    entries = {**run.settings, **limits, "version": run.version}
    rows = [(name, one_line(str(value))) for name, value in entries.items() if value is not None]
    return element("details", element("summary", "Settings of the last run"), definitions(rows))
