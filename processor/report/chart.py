"""A chart: a Vega-Lite specification, the sentence that says what it shows, and the same numbers as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from processor.core.fast_dataclass import dataclass
from processor.report.html import Html

Spec = dict[str, Any]

WIDTH, HEIGHT = 720, 200
"""Of the drawing without scripts; with them a chart is as wide as the page."""

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#8a8a8a",
)
"""Told apart by people with any kind of colour vision: https://jfly.uni-koeln.de/color/"""
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY, GREY)

_FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
_CONFIG: Spec = {
    "font": _FONT,
    "background": None,
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridOpacity": 0.5,
        "domain": False,
        "ticks": False,
        "labelPadding": 6,
    },
    "legend": {"orient": "top", "title": None, "labelFontSize": 12, "symbolStrokeWidth": 2},
    "range": {"category": list(COLOURS)},
}
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart of the page."""

    name: str
    """Names it in the page: letters and hyphens."""
    title: str
    """What is drawn, with its unit."""
    message: str
    """A sentence that reads the chart."""
    spec: Spec
    table: Html
    """The same numbers."""


def base(title: str, message: str, values: Sequence[Mapping[str, Any]], **more: Any) -> Spec:
    """Return a specification without marks. Its description is what a screen reader says of the drawing."""
    return {
        "$schema": SCHEMA,
        "description": f"{title}. {message}",
        "width": WIDTH,
        "height": HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": _CONFIG,
        "data": {"values": list(values)},
        **more,
    }


# ---------------------------------------------------------------- axes


def time_axis(begin: float, end: float) -> Spec:
    """The x axis of a chart over the time from ``begin`` to ``end``."""
    form = "%H:%M:%S" if end - begin < 180 else "%H:%M" if end - begin < 86_400 else "%d %b %H:%M"
    return {
        "field": "t",
        "type": "temporal",
        "title": None,
        "scale": {"type": "utc", "nice": False},
        "axis": {"format": form, "labelOverlap": "greedy", "tickCount": {"signal": "ceil(width / 110)"}},
    }


def amount_axis(field: str, **more: Any) -> Spec:
    """The y axis: its labels take the same space in each chart, so that the time axes stand below each other."""
    axis = {"minExtent": 52, "maxExtent": 52, "format": "~s", "tickCount": 4, "title": None}
    return {"field": field, "type": "quantitative", "axis": axis, **more}


def colour(field: str, colours: Mapping[str, str], **more: Any) -> Spec:
    """The colour of each name."""
    scale = {"domain": list(colours), "range": list(colours.values())}
    return {"field": field, "type": "nominal", "scale": scale, **more}


def tooltip(*fields: tuple[str, str, str]) -> list[Spec]:
    """What is shown where the pointer stands: (field, title, format); the format ``time`` is that of a moment."""
    return [
        {"field": field, "title": title, "type": "temporal", "timeUnit": "utcyearmonthdatehoursminutesseconds"}
        if form == "time"
        else {"field": field, "title": title, **({"type": "quantitative", "format": form} if form else {})}
        for field, title, form in fields
    ]


# ---------------------------------------------------------------- time


def wall_clock_ms(unix_time: float) -> float:
    """Return a moment as the clock of this machine shows it, as milliseconds that Vega is to show as UTC.

    The drawing is made here and the scripts run elsewhere: both show the zone of the machine that made the report.
    """
    local = datetime.fromtimestamp(unix_time).astimezone()
    offset = local.utcoffset()
    return round((unix_time + (offset.total_seconds() if offset else 0.0)) * 1000)


def clock(unix_time: float, *, seconds: bool = True) -> str:
    """``2026-11-29 04:28:07``, by the clock of this machine."""
    return datetime.fromtimestamp(unix_time).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def zone_name(unix_time: float) -> str:
    """``UTC+0100``, the zone of this machine at a moment."""
    return datetime.fromtimestamp(unix_time).astimezone().strftime("UTC%z")
