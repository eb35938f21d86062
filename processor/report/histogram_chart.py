"""A histogram on a logarithmic axis, with the median and the 95th and 99th percentiles marked."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, e, floor, log
from typing import Any

from processor.report.chart import BLUE, ORANGE, Chart, Spec, amount_axis, base, tooltip
from processor.report.distribution import Distribution
from processor.report.table import number, table, text

MAX_BINS = 40
_MARKED = (("median", 0.5), ("p95", 0.95), ("p99", 0.99))


def histogram_chart(
    name: str, title: str, distribution: Distribution, shown: Callable[[float], str], *, axis_format: str = "~s"
) -> Chart:
    """``shown`` writes a value for people, ``axis_format`` is D3's for the axis."""
    marks = [(label, distribution.quantile(share) or 0.0) for label, share in _MARKED]
    written = ", ".join(f"{label} {shown(value)}" for label, value in marks)
    message = f"{written}, largest {shown(distribution.largest)}, of {distribution.count:,} replies."
    bins = _bins(distribution)
    values: list[dict[str, Any]] = [
        {"from": float(f"{low:.4g}"), "to": float(f"{high:.4g}"), "n": count} for low, high, count in bins
    ]
    return Chart(
        name=name,
        title=title,
        message=message[0].upper() + message[1:],
        spec=_spec(title, message, values, marks, axis_format),
        table=table(
            f"{title}: number of replies",
            (text("from"), text("to"), number("replies")),
            ((shown(low), shown(high), count) for low, high, count in bins),
        ),
    )


def _bins(distribution: Distribution) -> list[tuple[float, float, int]]:
    """At most MAX_BINS bins of equal ratio, each a whole number of the histogram's buckets; empty ones left out."""
    buckets = list(distribution.histogram.buckets())
    growth = log(buckets[0][1] / buckets[0][0])
    first = round(log(buckets[0][0]) / growth)
    last = round(log(buckets[-1][0]) / growth)
    step = max(ceil((last - first + 1) / MAX_BINS), 1)
    counts: dict[int, int] = {}
    for low, _, count in buckets:
        number_ = floor(round(log(low) / growth) / step)
        counts[number_] = counts.get(number_, 0) + count
    ratio = step * growth
    return [(e ** (at * ratio), e ** ((at + 1) * ratio), counts[at]) for at in sorted(counts)]


def _spec(
    title: str, message: str, values: list[dict[str, Any]], marks: list[tuple[str, float]], axis_format: str
) -> Spec:
    scale = {"type": "log", "nice": False, "domain": [values[0]["from"], values[-1]["to"]]}
    axis = {"format": axis_format, "title": None, "grid": False, "labelOverlap": "greedy", "tickCount": 6}
    bars = {
        "mark": {"type": "bar", "color": BLUE, "tooltip": True, "binSpacing": 0.5},
        "encoding": {
            "x": {"field": "from", "type": "quantitative", "scale": scale, "axis": axis, "bin": {"binned": True}},
            "x2": {"field": "to"},
            "y": amount_axis("n"),
            "tooltip": tooltip(("from", "from", ",.4~g"), ("to", "to", ",.4~g"), ("n", "replies", ",d")),
        },
    }
    lines = [
        {
            "data": {"values": [{"at": value, "label": label} for label, value in marks]},
            "mark": mark,
            "encoding": {"x": {"field": "at", "type": "quantitative"}, **more},
        }
        for mark, more in (
            ({"type": "rule", "color": ORANGE, "strokeWidth": 2, "strokeDash": [5, 3]}, {}),
            (
                {"type": "text", "align": "left", "dx": 4, "dy": -4, "baseline": "bottom", "fontSize": 12},
                {"y": {"value": 0}, "text": {"field": "label"}},
            ),
        )
    ]
    return {**base(title, message, values), "layer": [bars, *lines], "height": 150}
