"""Replies, tokens and requests in flight over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from processor.report.chart import (
    BLUE,
    GREEN,
    RED,
    SKY,
    Chart,
    Spec,
    amount_axis,
    base,
    clock,
    colour,
    time_axis,
    tooltip,
    wall_clock_ms,
    zone_name,
)
from processor.report.data import ReportData, Section
from processor.report.html import element
from processor.report.table import number, table, text
from processor.report.time_series import TimePoint, points_of, thinned
from processor.terminal.formatting import abbreviated, duration, plural


def throughput_section(data: ReportData) -> Section | None:
    points = points_of(data.rows.time)
    if not points:
        return None
    width = points[0].width_s
    zone = zone_name(points[0].begin)
    note = element(
        "p",
        f"Each point covers {duration(width)}. Times are those of the machine that made this page ({zone}). "
        "A reply counts at the time at which it was complete.",
        class_="note",
    )
    return Section(
        name="throughput", title="Throughput", content=(note, _replies(points), _tokens(points), _in_flight(points))
    )


def _per_minute(points: Sequence[TimePoint], field: str) -> list[float]:
    return [getattr(point, field) / point.width_s * 60 for point in points]


def _values(points: Sequence[TimePoint], series: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """The data of a chart. A step reaches to the next point: the last one gets one at its end."""
    values = []
    for name, amounts in series.items():
        for point, amount in zip(points, amounts, strict=True):
            values.append({"t": wall_clock_ms(point.begin), "n": round(amount, 1), "what": name})
        values.append({"t": wall_clock_ms(points[-1].end), "n": round(amounts[-1], 1), "what": name})
    return values


def _axis(points: Sequence[TimePoint]) -> Spec:
    return time_axis(points[0].begin, points[-1].end)


def _replies(points: Sequence[TimePoint]) -> Chart:
    replies, failed = _per_minute(points, "replies"), _per_minute(points, "failed")
    busiest = max(range(len(points)), key=lambda at: replies[at])
    message = (
        f"At most {f'{replies[busiest]:,.1f}'.removesuffix('.0')} replies a minute, at {clock(points[busiest].begin)}; "
        f"{plural(sum(point.failed for point in points), 'job')} failed."
    )
    return _chart(
        "replies-a-minute",
        "Replies and failed jobs a minute",
        message,
        points,
        (("replies", "replies", replies, BLUE), ("failed", "failed", failed, RED)),
    )


def _tokens(points: Sequence[TimePoint]) -> Chart:
    prompt, completion = _per_minute(points, "prompt_tokens"), _per_minute(points, "completion_tokens")
    most = max(map(sum, zip(prompt, completion, strict=True)))
    return _chart(
        "tokens-a-minute",
        "Tokens a minute",
        f"At most {abbreviated(most)} tokens a minute, of prompts and replies together.",
        points,
        (("prompt_tokens", "prompt", prompt, GREEN), ("completion_tokens", "reply", completion, SKY)),
    )


def _in_flight(points: Sequence[TimePoint]) -> Chart:
    most = max(points, key=lambda point: point.in_flight)
    return _chart(
        "in-flight",
        "Requests in flight",
        f"At most {most.in_flight:,} at the end of one of the times drawn, at {clock(most.end)}.",
        points,
        (("in_flight", "in flight", [float(point.in_flight) for point in points], BLUE),),
        height=110,
    )


Series = tuple[str, str, Sequence[float], str]
"""The field of a point, its name in the chart, the amounts and their colour."""


def _chart(
    name: str, title: str, message: str, points: Sequence[TimePoint], series: Sequence[Series], **more: Any
) -> Chart:
    values = _values(points, {label: amounts for _, label, amounts, _ in series})
    colours = {label: shade for _, label, _, shade in series}
    return Chart(
        name=name,
        title=title,
        message=message,
        spec=_area(title, message, values, points, colours, **more),
        table=_table(title, points, tuple(field for field, *_ in series)),
    )


def _area(
    title: str,
    message: str,
    values: list[dict[str, Any]],
    points: Sequence[TimePoint],
    colours: Mapping[str, str],
    **more: Any,
) -> Spec:
    encoding = {
        "x": _axis(points),
        "y": amount_axis("n", stack=True),
        "color": colour("what", colours, legend=None if len(colours) == 1 else {}),
        "tooltip": tooltip(("t", "from", "time"), ("what", "what", ""), ("n", "number", ",.1f")),
    }
    mark = {"type": "area", "interpolate": "step-after", "opacity": 0.85, "tooltip": True}
    if len(points) < 3:  # an area of one point has no width
        mark = {"type": "bar", "width": 24, "tooltip": True}
    return base(title, message, values, mark=mark, encoding=encoding, **more)


def _table(title: str, points: Sequence[TimePoint], fields: tuple[str, ...]) -> Any:
    rows = thinned(points)
    columns = (text("from"), *(number(_HEADINGS[field]) for field in fields))
    return table(
        f"{title}: numbers by {duration(rows[0].width_s)}",
        columns,
        ((clock(point.begin), *(getattr(point, field) for field in fields)) for point in rows),
    )


_HEADINGS = {
    "replies": "replies",
    "failed": "failed",
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "reply tokens",
    "in_flight": "in flight at the end",
}
