"""The slowest, the longest and the most expensive replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from processor.core.money import dollars
from processor.core.text import one_line
from processor.report.data import ReportData, Section
from processor.report.html import Html, element
from processor.report.row_facts import RowFacts
from processor.report.table import Column, Number, number, table, text
from processor.terminal.formatting import duration

MAX_ID_CHARS = 120


def extremes_section(data: ReportData) -> Section | None:
    rows = data.rows
    kinds = (
        ("The slowest replies", rows.slowest.rows()),
        ("The longest replies", rows.longest.rows()),
        ("The most expensive replies", rows.most_expensive.rows()),
    )
    content = tuple(_fold(caption, found, data) for caption, found in kinds if found)
    return Section(name="extremes", title="Slowest, longest, most expensive", content=content) if content else None


def _fold(caption: str, rows: Sequence[RowFacts], data: ReportData) -> Html:
    summary = element("summary", f"{caption} ({len(rows)})")
    return element("details", summary, _table(caption, rows, data), open=caption == "The slowest replies")


def _table(caption: str, rows: Sequence[RowFacts], data: ReportData) -> Html:
    columns: list[Column] = [text("id"), number("line"), text("model"), number("seconds"), number("prompt tokens")]
    columns += [number("reply tokens"), number("cost"), number("attempts")]
    extra: list[tuple[str, Callable[[RowFacts], str]]] = []
    if data.prompts:
        extra.append(("job", lambda row: data.prompts.get(row.key, "")))
    if data.options.with_text:
        extra.append(("reply", lambda row: data.texts.get(row.key, "")))
    columns += [text(heading) for heading, _ in extra]
    return table(caption, columns, [(*_cells(row), *(get(row) for _, get in extra)) for row in rows], is_searched=True)


def _cells(row: RowFacts) -> list[object]:
    return [
        one_line(row.custom_id or "", MAX_ID_CHARS),
        row.line,
        one_line(row.model, MAX_ID_CHARS),
        None if row.total_s is None else Number(shown=duration(row.total_s), value=row.total_s),
        row.used.prompt_tokens if row.used else None,
        row.used.completion_tokens if row.used else None,
        None if row.cost_usd is None else Number(shown=dollars(row.cost_usd), value=row.cost_usd),
        row.attempts,
    ]
