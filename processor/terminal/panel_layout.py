"""The panel's usual form, from 60 columns on. Pure: a state, and the lines that show it."""

from __future__ import annotations

from operator import attrgetter

from processor.stats.recent_use import MAX_COLUMNS, RecentColumns, Use
from processor.terminal.charts import Characters, Values, sparkline
from processor.terminal.formatting import plural
from processor.terminal.panel_state import PanelState, UseShown
from processor.terminal.panel_texts import (
    bar_line,
    counts_text,
    endpoint_line,
    first_token_text,
    head_lines,
    latency_text,
    limit_text,
    share_text,
    title_line,
    tokens_text,
    used_text,
)
from processor.terminal.styled_line import BLANK_LINE, Line, Span, SpanStyle, cut_line, styled

MIN_COLUMNS, MIN_ROWS = 60, 16
MIN_COLUMNS_WITH_LIMITS = 80
MAX_WIDTH = 120
"""Columns; a wider line is harder to read and shows nothing more."""

LABEL_WIDTH = 12
USED_WIDTH, LIMIT_WIDTH, SHARE_WIDTH, BOUND_WIDTH = 10, 11, 6, 10

MINUTE_S, HOUR_S = 60, 3600


def usable_width(columns: int) -> int:
    """The last column stays free: where it is written, some terminals wrap."""
    return min(columns - 1, MAX_WIDTH)


def chart_columns(columns: int) -> int:
    limit = LIMIT_WIDTH if columns >= MIN_COLUMNS_WITH_LIMITS else 0
    return min(usable_width(columns) - LABEL_WIDTH - USED_WIDTH - limit - SHARE_WIDTH - BOUND_WIDTH, MAX_COLUMNS)


def panel_lines(state: PanelState, columns: int, rows: int, characters: Characters) -> list[Line]:
    """The lines of the panel, at most ``rows`` of them."""
    width = usable_width(columns)
    lines = [
        title_line(state, width, with_key=False),
        bar_line(state, width, characters),
        *head_lines(state, width),
        BLANK_LINE,
        *_use_lines(state, columns, characters),
        BLANK_LINE,
        *_reply_lines(state),
    ]
    names = max((len(each.use.name) for each in state.endpoints), default=0)
    endpoints = [endpoint_line(each, state.time, min(names, LABEL_WIDTH * 2)) for each in state.endpoints]
    if endpoints and len(lines) + len(endpoints) < rows:
        lines += [BLANK_LINE, *endpoints]
    return [cut_line(line, width) for line in lines[:rows]]


def _use_lines(state: PanelState, columns: int, characters: Characters) -> list[Line]:
    has_limits = columns >= MIN_COLUMNS_WITH_LIMITS
    width = chart_columns(columns)
    header = f"{'':{LABEL_WIDTH}}{span_text(state.recent):{width}}{'now':>{USED_WIDTH}}"
    rows = (
        ("requests", state.requests, "RPM", attrgetter("requests")),
        ("tokens", state.tokens, "TPM", attrgetter("tokens")),
        ("in flight", state.slots, "", attrgetter("in_flight")),
    )
    lines = [styled(Span(header + (f"{'limit':>{LIMIT_WIDTH}}" if has_limits else ""), "dim"))]
    for label, use, unit, value_of in rows:
        values = values_of(state.recent, value_of)
        chart = sparkline(values, scale_of(use, values), characters)
        limit = f"{limit_text(use, unit):>{LIMIT_WIDTH}}" if has_limits else ""
        numbers = f"{used_text(use):>{USED_WIDTH}}{limit}{share_text(use):>{SHARE_WIDTH}}"
        bound = Span("  bound by", "bold") if use.is_bottleneck else Span("")
        lines.append(styled(Span(f"{label:{LABEL_WIDTH}}", "dim"), Span(chart, "bar"), numbers, bound))
    return lines


def values_of(recent: RecentColumns, value_of: attrgetter[float]) -> Values:
    def value(use: Use | None) -> float | None:
        return None if use is None else value_of(use)

    return [value(use) for use in recent.columns]


def scale_of(use: UseShown, values: Values) -> float:
    """The value of a full column: the limit, or the highest value shown where there is no limit."""
    return use.limit or max((value for value in values if value is not None), default=0.0)


def span_text(recent: RecentColumns) -> str:
    """``last 60 minutes``."""
    seconds = recent.width_s * len(recent.columns)
    if seconds < 2 * MINUTE_S:
        return f"last {plural(seconds, 'second')}"
    if seconds <= 2 * HOUR_S:
        return f"last {plural(round(seconds / MINUTE_S), 'minute')}"
    return f"last {seconds / HOUR_S:.2g} hours"


def _reply_lines(state: PanelState) -> list[Line]:
    speed = f", {state.replies.tokens_per_s:,.0f} tokens/s" if state.replies.tokens_per_s else ""
    entries: list[tuple[str, str, SpanStyle]] = [
        ("first token", first_token_text(state.replies), ""),
        ("whole reply", latency_text(state.replies.total) + speed, ""),
        ("tokens", tokens_text(state), ""),
        ("failed", counts_text(state.failed), "bad" if state.failed else ""),
        ("retried", counts_text(state.retried), "warning" if state.retried else ""),
        *((("workers", state.workers, ""),) if state.workers else ()),
    ]
    return [styled(Span(f"{label:{LABEL_WIDTH}}", "dim"), Span(text, style)) for label, text, style in entries]
