"""Tokens and cost by model and endpoint."""

from __future__ import annotations

from processor.core.money import dollars
from processor.core.text import one_line
from processor.report.chart import GREEN, SKY, Chart, amount_axis, base, colour, tooltip
from processor.report.data import ReportData, Section
from processor.report.html import Html, element
from processor.report.row_counts import ModelCounts, RowCounts
from processor.report.table import Number, number, table, text

MAX_LABEL_CHARS = 40


def models_section(data: ReportData) -> Section | None:
    rows = data.rows
    if not rows.by_model:
        return None
    content: list[Html | Chart] = [_table(rows)]
    if any(counts.reported for counts in rows.by_model.values()):
        content.append(_reported(rows))
    if any(counts.prompt_tokens + counts.completion_tokens for counts in rows.by_model.values()):
        content.append(_chart(rows))
    return Section(name="models", title="Tokens and cost by model", content=tuple(content))


def _table(rows: RowCounts) -> Html:
    columns = (
        *(text("model"), text("endpoint"), number("replies"), number("failed")),
        *(number("prompt tokens"), number("reply tokens"), number("cost")),
    )
    lines = [
        (
            *(model or "unknown", endpoint, counts.replies, counts.failed),
            *(counts.prompt_tokens, counts.completion_tokens, _cost(counts)),
        )
        for (model, endpoint), counts in sorted(rows.by_model.items())
    ]
    return table("Tokens are those that the server reported, else as computed", columns, lines)


def _cost(counts: ModelCounts) -> Number:
    if counts.cost_usd is None:
        return Number(shown="unknown", value=-1)
    more = f", {counts.unknown_cost:,} unknown" if counts.unknown_cost else ""
    return Number(shown=dollars(counts.cost_usd) + more, value=counts.cost_usd)


def _reported(rows: RowCounts) -> Html:
    lines = [
        (
            model or "unknown",
            counts.reported,
            counts.reported_tokens,
            counts.computed_beside_reported,
            Number(
                shown=f"{counts.reported_tokens / counts.computed_beside_reported - 1:+.1%}",
                value=counts.reported_tokens / counts.computed_beside_reported,
            )
            if counts.computed_beside_reported
            else None,
        )
        for (model, _), counts in sorted(rows.by_model.items())
        if counts.reported
    ]
    columns = (text("model"), number("replies"), number("reported"), number("computed"), number("difference"))
    inner = table("Tokens as the server reported them, and as computed for the same replies", columns, lines)
    return element("details", element("summary", "Reported against computed tokens"), inner)


def _chart(rows: RowCounts) -> Chart:
    title = "Tokens by model"
    sums: dict[str, list[int]] = {}
    for (model, _), counts in rows.by_model.items():
        pair = sums.setdefault(one_line(model, MAX_LABEL_CHARS) or "unknown", [0, 0])
        pair[0] += counts.prompt_tokens
        pair[1] += counts.completion_tokens
    names = sorted(sums, key=lambda name: -sum(sums[name]))
    total = sum(map(sum, sums.values()))
    message = f"{names[0]} took {sum(sums[names[0]]) / total:.0%} of the {total:,} tokens."
    values = [
        {"model": name, "n": amount, "what": what}
        for name in names
        for what, amount in zip(("prompt", "reply"), sums[name], strict=True)
    ]
    encoding = {
        "y": {"field": "model", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 160}},
        "x": {**amount_axis("n", stack=True), "axis": {"format": "~s", "title": None, "tickCount": 5}},
        "color": colour("what", {"prompt": GREEN, "reply": SKY}),
        "tooltip": tooltip(("model", "model", ""), ("what", "tokens of", ""), ("n", "tokens", ",d")),
    }
    spec = base(
        title, message, values, mark={"type": "bar", "tooltip": True}, encoding=encoding, height=28 * len(names) + 10
    )
    columns = (text("model"), number("prompt tokens"), number("reply tokens"))
    lines = ((name, *sums[name]) for name in names)
    return Chart(name="tokens-by-model", title=title, message=message, spec=spec, table=table(title, columns, lines))
