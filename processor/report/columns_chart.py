"""Columns over the periods of a history, each as wide as its period, with the kinds of a period on each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from processor.report.chart import Spec, amount_axis, colour, time_axis, tooltip, wall_clock_ms
from processor.report.run_history import Period


def columns_layer(
    periods: Sequence[Period],
    amounts: Sequence[Mapping[str, float]],
    colours: Mapping[str, str],
    *,
    what: str,
    number_format: str,
) -> Spec:
    """Return data, mark and encoding of the amounts of each period by kind, in the order of ``colours``."""
    values: list[dict[str, Any]] = []
    for period, by_kind in zip(periods, amounts, strict=True):
        low = 0.0
        for kind in colours:
            if amount := by_kind.get(kind):
                bounds = {"low": round(low, 4), "high": round(low + amount, 4)}
                times = {"t": wall_clock_ms(period.begin), "u": wall_clock_ms(period.end)}
                values.append({**times, **bounds, "n": round(amount, 4), "what": kind})
                low += amount
    encoding = {
        "x": time_axis(periods[0].begin, periods[-1].end),
        "x2": {"field": "u"},
        "y": amount_axis("high", scale={"zero": True}),
        "y2": {"field": "low"},
        "color": colour("what", colours, legend={} if len(colours) > 1 else None),
        "tooltip": tooltip(("t", "from", "time"), ("what", "what", ""), ("n", what, number_format)),
    }
    # Screen readers get the description: a label for each column would be read one after the other.
    mark = {"type": "rect", "aria": False, "tooltip": True}
    return {"data": {"values": values}, "mark": mark, "encoding": encoding}
