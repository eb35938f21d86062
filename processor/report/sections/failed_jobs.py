"""The failed jobs: how many by code, and which."""

from __future__ import annotations

from processor.core.text import one_line
from processor.report.data import ReportData, Section
from processor.report.html import Html, element
from processor.report.row_facts import RowFacts
from processor.report.sections.overview import command_line
from processor.report.table import Column, number, table, text
from processor.terminal.formatting import plural

MAX_MESSAGE_CHARS = 120
MAX_ID_CHARS = 120
MAX_CHARS = 270_000
"""Of the list: the page has at most 3 MB, of which the libraries take more than half."""
CELL_OVERHEAD_CHARS = 14


def failed_jobs_section(data: ReportData) -> Section | None:
    rows = data.rows
    if not rows.failed:
        return None
    content = [_by_code(data)]
    if data.command:
        content.append(element("p", "To send these again, with those that failed for good: ", _retry(data.command)))
    lines = _lines(data)
    if rows.failed > len(lines):
        note = f"{len(lines):,} of {rows.failed:,} failed jobs are listed; all are in "
        content.append(element("p", note, element("code", data.paths.failures.name), class_="note"))
    content.append(table("The failed jobs", _columns(data), lines, is_searched=True))
    return Section(name="failed", title="Failed jobs", content=tuple(content))


def _retry(command: str) -> Html:
    return command_line(command if "--retry-failed" in command else f"{command} --retry-failed")


def _by_code(data: ReportData) -> Html:
    columns = (text("code"), number("jobs"))
    caption = f"Failed jobs by code; {plural(data.rows.permanent_failures, 'job')} would fail again as they are"
    return table(caption, columns, data.rows.failures_by_code.most_common())


def _columns(data: ReportData) -> list[Column]:
    columns = [text("id"), number("line"), text("model"), text("code"), number("attempts")]
    columns += [text("message")] if data.options.with_messages else []
    columns += [text("job")] if data.prompts else []
    return columns


def _lines(data: ReportData) -> list[list[object]]:
    """The cells of the failed jobs in the order of the job file, as many as the page has room for."""
    lines: list[list[object]] = []
    left = MAX_CHARS
    for row in sorted(data.rows.listed_failures, key=lambda row: row.line):
        cells = _cells(row, data)
        left -= sum(len(str(cell)) + CELL_OVERHEAD_CHARS for cell in cells)
        if left < 0:
            break
        lines.append(cells)
    return lines


def _cells(row: RowFacts, data: ReportData) -> list[object]:
    return [
        one_line(row.custom_id or "", MAX_ID_CHARS),
        row.line,
        one_line(row.model, MAX_ID_CHARS),
        one_line(row.code or "", MAX_ID_CHARS),
        row.attempts,
        *((one_line(row.message, MAX_MESSAGE_CHARS),) if data.options.with_messages else ()),
        *((data.prompts.get(row.key, ""),) if data.prompts else ()),
    ]
