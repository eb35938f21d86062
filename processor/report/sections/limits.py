"""What was sent each minute, with the limit drawn in; requests in flight; where the time went. From the history."""

from __future__ import annotations

from collections.abc import Sequence

from processor.report.chart import (
    BLUE,
    COLOURS,
    GREEN,
    RED,
    Chart,
    Spec,
    amount_axis,
    base,
    clock,
    tooltip,
    wall_clock_ms,
)
from processor.report.columns_chart import columns_layer
from processor.report.data import ReportData, Section
from processor.report.html import Html
from processor.report.run_history import Period, periods_of, summed
from processor.report.table import Number, number, table, text
from processor.terminal.formatting import abbreviated, duration, percent

MAX_TABLE_ROWS = 120

BOUND_BY = {
    "requests": "request limit",
    "tokens": "token limit",
    "in_flight": "concurrency",
    "cool_down": "cool-down",
    "outage": "outage",
    "back_off": "back-off",
    "input": "available jobs",
    "nothing": "nothing",
}


def limits_section(data: ReportData) -> Section | None:
    periods = periods_of(data.runs)
    if not any(period.requests for period in periods):
        return None
    content: list[Html | Chart] = [
        _use("requests-and-limit", "Requests sent a minute", "request", periods, BLUE),
        _use("tokens-and-limit", "Tokens reserved a minute", "token", periods, GREEN),
        _where_time_went(periods),
    ]
    return Section(name="limits", title="Limits and where the time went", content=tuple(content))


def _use(name: str, title: str, what: str, periods: Sequence[Period], fill: str) -> Chart:
    rates = [(period.requests if what == "request" else period.tokens) / period.seconds * 60 for period in periods]
    limits = [period.rpm if what == "request" else period.tpm for period in periods]
    lines = [
        {"t": wall_clock_ms(moment), "n": limit}
        for period, limit in zip(periods, limits, strict=True)
        if limit
        for moment in (period.begin, period.end)
    ]
    message = _use_message(what, periods, rates, limits)
    kind = f"{what}s"
    columns = columns_layer(
        periods, [{kind: rate} for rate in rates], {kind: fill}, what=f"{kind} a minute", number_format=",.0f"
    )
    x = columns["encoding"]["x"]
    rule: Spec = {
        "data": {"values": lines},
        "mark": {"type": "line", "color": RED, "strokeWidth": 2, "strokeDash": [6, 3], "tooltip": True},
        "encoding": {"x": x, "y": amount_axis("n"), "tooltip": tooltip(("n", "limit", ",.0f"))},
    }
    spec = {**base(title, message, []), "layer": [columns, rule] if lines else [columns]}
    del spec["data"]
    rows = zip(periods, rates, limits, strict=True)
    step = -(-len(periods) // MAX_TABLE_ROWS)
    cells = [
        (clock(period.begin), Number(shown=f"{rate:,.0f}", value=rate), "none" if limit is None else f"{limit:,.0f}")
        for period, rate, limit in list(rows)[::step]
    ]
    caption = title if step == 1 else f"{title}: one of every {step} periods"
    headings = (text("from"), number(f"{what}s a minute"), number("limit"))
    return Chart(name=name, title=title, message=message, spec=spec, table=table(caption, headings, cells))


def _use_message(what: str, periods: Sequence[Period], rates: Sequence[float], limits: Sequence[float | None]) -> str:
    allowed = sum(limit * period.seconds for limit, period in zip(limits, periods, strict=True) if limit)
    used = sum(rate * period.seconds for rate, limit, period in zip(rates, limits, periods, strict=True) if limit)
    most = f"At most {abbreviated(max(rates))} {what}s a minute"
    if not allowed:
        return f"{most}; no {what} limit was known."
    return f"{most}. The {what} limit (dashed) was used to {percent(used / allowed)}."


def _where_time_went(periods: Sequence[Period]) -> Chart:
    title = "What the next request waited for"
    spent_s = summed(period.bound_by_s for period in periods)
    total_s = sum(spent_s.values()) or 1.0
    names = sorted(spent_s, key=lambda name: -spent_s[name])
    shares = ", ".join(f"{_label(name)} {percent(spent_s[name] / total_s)}" for name in names[:4])
    message = f"Of the whole time: {shares}." if shares else "Nothing is known of it."
    colours = {_label(name): COLOURS[at % len(COLOURS)] for at, name in enumerate(names)}
    shares_of = [
        {_label(name): value / sum(period.bound_by_s.values()) for name, value in period.bound_by_s.items()}
        for period in periods
    ]
    layer = columns_layer(periods, shares_of, colours, what="share of the time", number_format=".0%")
    axis = layer["encoding"]["y"]
    layer["encoding"]["y"] = {**axis, "scale": {"domain": [0, 1]}, "axis": {**axis["axis"], "format": ".0%"}}
    columns = (text("waited for"), number("time"), number("share"))
    rows = [
        (_label(name), Number(shown=duration(spent_s[name]), value=spent_s[name]), percent(spent_s[name] / total_s))
        for name in names
    ]
    return Chart(
        name="bottlenecks",
        title=title,
        message=message,
        spec={**base(title, message, [], height=130), **layer},
        table=table(f"{title}, in all", columns, rows),
    )


def _label(name: str) -> str:
    return BOUND_BY.get(name, "other")
