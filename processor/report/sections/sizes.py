"""How large prompts and replies were."""

from __future__ import annotations

from processor.report.chart import BLUE, Chart, amount_axis, base, tooltip
from processor.report.data import ReportData, Section
from processor.report.histogram_chart import histogram_chart
from processor.report.html import Html
from processor.report.row_facts import RowFacts
from processor.report.table import Number, number, table, text
from processor.terminal.formatting import duration

MAX_TABLE_ROWS = 100


def sizes_section(data: ReportData) -> Section | None:
    rows = data.rows
    content: list[Html | Chart] = []
    if rows.prompt_tokens.count:
        content.append(histogram_chart("prompt-tokens", "Prompt tokens", rows.prompt_tokens, _tokens))
    if rows.completion_tokens.count:
        content.append(histogram_chart("reply-tokens", "Reply tokens", rows.completion_tokens, _tokens))
        content.append(_scatter(rows.sample.rows(), rows.replies))
    return Section(name="sizes", title="Sizes", content=tuple(content)) if content else None


def _tokens(value: float) -> str:
    return f"{value:,.0f} tokens"


def _scatter(sample: list[RowFacts], replies: int) -> Chart:
    title = "Reply tokens and seconds to the whole reply"
    drawn = [row for row in sample if row.used is not None and row.used.completion_tokens and row.total_s]
    message = (
        f"A sample of {len(drawn):,} of {replies:,} replies, drawn at random and the same each time."
        if len(sample) < replies
        else f"All {len(drawn):,} replies."
    )
    values = [{"n": row.used.completion_tokens if row.used else 0, "s": round(row.total_s or 0.0, 2)} for row in drawn]
    encoding = {
        "x": {**amount_axis("n"), "axis": {"format": "~s", "title": "reply tokens", "grid": False}},
        "y": amount_axis("s"),
        "tooltip": tooltip(("n", "reply tokens", ",d"), ("s", "seconds", ",.2~f")),
    }
    # Screen readers get the description: a label for each point would be read one after the other.
    mark = {"type": "point", "filled": True, "size": 14, "opacity": 0.45, "color": BLUE, "aria": False, "tooltip": True}
    columns = (text("id"), number("reply tokens"), number("seconds"))
    lines = [
        (
            (row.custom_id or "")[:120],
            row.used.completion_tokens if row.used else 0,
            Number(shown=duration(row.total_s or 0.0), value=row.total_s or 0.0),
        )
        for row in drawn[:MAX_TABLE_ROWS]
    ]
    caption = f"{title}: {len(lines):,} of those drawn"
    return Chart(
        name="tokens-and-seconds",
        title=title,
        message=message,
        spec=base(title, message, values, mark=mark, encoding=encoding),
        table=table(caption, columns, lines),
    )
