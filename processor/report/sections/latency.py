"""How long replies took: distributions, percentiles over time, and percentiles by model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from processor.report.chart import (
    BLUE,
    ORANGE,
    RED,
    Chart,
    amount_axis,
    base,
    clock,
    colour,
    time_axis,
    tooltip,
    wall_clock_ms,
)
from processor.report.data import ReportData, Section
from processor.report.distribution import Distribution
from processor.report.histogram_chart import histogram_chart
from processor.report.html import Html
from processor.report.row_counts import ModelCounts, RowCounts
from processor.report.table import Number, number, table, text
from processor.report.time_series import TimePoint, percentile, points_of, thinned
from processor.terminal.formatting import duration

SHARES = (("median", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99))
_DRAWN = (("p99", 0.99), ("p95", 0.95), ("median", 0.5))


def latency_section(data: ReportData) -> Section | None:
    total = _over_models(data.rows, lambda counts: counts.total)
    if not total.count:
        return None
    first = _over_models(data.rows, lambda counts: counts.first_token)
    speed = _over_models(data.rows, lambda counts: counts.tokens_per_s)
    seconds = partial(histogram_chart, shown=duration, axis_format="~g")
    charts: list[Html | Chart] = [seconds("whole-reply", "Seconds to the whole reply", total)]
    if first.count:
        charts.append(seconds("first-token", "Seconds to the first token", first))
    if speed.count:
        charts.append(histogram_chart("token-speed", "Tokens a second, after the first token", speed, _per_second))
    points = points_of(data.rows.time)
    if len(points) > 2:
        charts.append(_over_time(points))
    return Section(name="latency", title="Latency", content=(_by_model(data.rows), *charts))


def _per_second(value: float) -> str:
    return f"{value:,.1f}/s"


def _over_models(rows: RowCounts, choose: Callable[[ModelCounts], Distribution]) -> Distribution:
    merged = Distribution()
    for counts in rows.by_model.values():
        merged.merge(choose(counts))
    return merged


def _by_model(rows: RowCounts) -> Html:
    columns = [text("model"), text("what"), number("replies")]
    columns += [number(name) for name, _ in SHARES] + [number("largest")]
    kinds: tuple[tuple[str, Callable[[ModelCounts], Distribution], Callable[[float], str]], ...] = (
        ("first token", lambda counts: counts.first_token, duration),
        ("whole reply", lambda counts: counts.total, duration),
        ("tokens a second", lambda counts: counts.tokens_per_s, _per_second),
    )
    lines = [
        (model or "unknown", what, distribution.count, *_percentiles(distribution, shown))
        for (model, _), counts in sorted(rows.by_model.items())
        for what, choose, shown in kinds
        if (distribution := choose(counts)).count
    ]
    return table("Percentiles by model, exact to 1 %; the largest value is exact", columns, lines)


def _percentiles(distribution: Distribution, shown: Callable[[float], str]) -> list[Number]:
    values = [distribution.quantile(share) or 0.0 for _, share in SHARES]
    return [Number(shown=shown(value), value=value) for value in (*values, distribution.largest)]


def _over_time(points: Sequence[TimePoint]) -> Chart:
    title = "Seconds to the whole reply, over time"
    values: list[dict[str, Any]] = [
        {"t": wall_clock_ms(point.begin), "s": round(value, 3), "share": name}
        for name, share in _DRAWN
        for point in points
        if (value := percentile(point.total, share)) is not None
    ]
    worst = max(points, key=lambda point: percentile(point.total, 0.95) or 0.0)
    slow_s = percentile(worst.total, 0.95) or 0.0
    message = f"The slowest time began at {clock(worst.begin)}: 95 % of its replies took {duration(slow_s)} or less."
    encoding = {
        "x": time_axis(points[0].begin, points[-1].end),
        "y": amount_axis("s", scale={"type": "linear"}),
        "color": colour("share", {"p99": RED, "p95": ORANGE, "median": BLUE}),
        "strokeDash": {
            "field": "share",
            "type": "nominal",
            "scale": {"domain": [name for name, _ in _DRAWN], "range": [[2, 2], [6, 3], [1, 0]]},
        },
        "tooltip": tooltip(("t", "from", "time"), ("share", "percentile", ""), ("s", "seconds", ",.3~f")),
    }
    spec = base(title, message, values, mark={"type": "line", "strokeWidth": 1.8, "tooltip": True}, encoding=encoding)
    rows = (
        (clock(point.begin), point.total.total(), *(_shown(percentile(point.total, share)) for _, share in SHARES))
        for point in thinned(points)
    )
    columns = (text("from"), number("replies"), *(number(name) for name, _ in SHARES))
    return Chart(
        name="latency-over-time",
        title=title,
        message=message,
        spec=spec,
        table=table(f"{title}, exact to 5 %", columns, rows),
    )


def _shown(value: float | None) -> Number | None:
    return None if value is None else Number(shown=duration(value), value=value)
