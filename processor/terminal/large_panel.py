"""The panel's large form, from 150 columns and 36 rows on: charts with an axis, a table by model, the last notices.

Pure. It shows the numbers of the usual form and more; what stands side by side is two columns of equal width.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import zip_longest
from math import floor, log2
from operator import attrgetter

from processor.core.text import one_line
from processor.stats.recent_use import MAX_COLUMNS
from processor.terminal.charts import Characters, Values, column_chart
from processor.terminal.formatting import abbreviated, duration
from processor.terminal.panel_layout import scale_of, values_of
from processor.terminal.panel_state import LargeFormValues, ModelShown, PanelState, UseShown
from processor.terminal.panel_texts import (
    UNKNOWN,
    bar_line,
    bound_text,
    counts_text,
    endpoint_line,
    first_token_text,
    head_lines,
    share_text,
    title_line,
    tokens_text,
)
from processor.terminal.styled_line import BLANK_LINE, Line, Span, SpanStyle, cut_line, padded, styled

MIN_COLUMNS, MIN_ROWS = 150, 36
MAX_WIDTH = 196
GUTTER = 4
AXIS_WIDTH = 8
"""Of the numbers beside a chart and its axis."""
TALL_ROWS, LOW_ROWS = 8, 4
TICK_COLUMNS = 24
NUMBERS_WIDTH = 57
"""Of the table by model, beside the names."""

Block = list[Line]


def column_width(columns: int) -> int:
    return (min(columns - 1, MAX_WIDTH) - GUTTER) // 2


def chart_columns(columns: int) -> int:
    return min(column_width(columns) - AXIS_WIDTH, MAX_COLUMNS)


def large_panel_lines(state: PanelState, columns: int, rows: int, characters: Characters) -> list[Line]:
    """The lines of the panel, at most ``rows`` of them. The state must hold the values of the large form."""
    large = state.large
    assert large is not None
    column = column_width(columns)
    width = 2 * column + GUTTER
    head = [
        title_line(state, width, with_key=True),
        bar_line(state, width, characters),
        *head_lines(state, width),
        BLANK_LINE,
    ]
    charts = [
        *_side_by_side(_requests(state, characters), _tokens(state, characters), column),
        BLANK_LINE,
        *_side_by_side(_in_flight(state, characters), _reply_times(state, large, column, characters), column),
        BLANK_LINE,
    ]
    room = rows - len(head) - len(charts)
    below = _side_by_side(_counts(state, column), _notices(large, column), column)
    endpoints = [endpoint_line(each, state.time, 24) for each in state.endpoints]
    if endpoints and len(below) + len(endpoints) + 1 <= room:
        below += [BLANK_LINE, *endpoints]
    if room >= len(below) + 3:
        table = _side_by_side(_models(large.models, column), _oldest(large), column)[: room - len(below) - 1]
        below = [*table, BLANK_LINE, *below]
    return [cut_line(line, width) for line in (*head, *charts, *below)[:rows]]


def _side_by_side(left: Block, right: Block, column: int) -> Block:
    return [
        (*padded(a, column), Span(" " * GUTTER), *cut_line(b, column))
        for a, b in zip_longest(left, right, fillvalue=BLANK_LINE)
    ]


# ---------------------------------------------------------------- charts over time


def _requests(state: PanelState, characters: Characters) -> Block:
    values = values_of(state.recent, attrgetter("requests"))
    return _chart("requests a minute", state.requests, state, values, TALL_ROWS, characters)


def _tokens(state: PanelState, characters: Characters) -> Block:
    values = values_of(state.recent, attrgetter("tokens"))
    return _chart("tokens a minute", state.tokens, state, values, TALL_ROWS, characters)


def _in_flight(state: PanelState, characters: Characters) -> Block:
    values = values_of(state.recent, attrgetter("in_flight"))
    return _chart("in flight", state.slots, state, values, LOW_ROWS, characters)


def _chart(label: str, use: UseShown, state: PanelState, values: Values, rows: int, characters: Characters) -> Block:
    of = "" if use.limit is None else f" of {abbreviated(use.limit)}"
    share = share_text(use)
    bound = styled("   ", Span(bound_text(state.situation), "bold")) if use.is_bottleneck else BLANK_LINE
    title = styled(Span(f"{label}: ", "dim"), f"{abbreviated(use.used)}{of}", f", {share}" if share else "", *bound)
    scale = scale_of(use, values)
    return [title, *_with_axis(column_chart(values, scale, rows, characters), scale, characters), _time_axis(state)]


def _with_axis(chart: Sequence[str], scale: float, characters: Characters) -> Block:
    """The chart with its scale: the upper edge, the middle where there is room, and zero."""
    labels = {0: abbreviated(scale), len(chart) - 1: "0"}
    if len(chart) >= TALL_ROWS:
        labels[len(chart) // 2] = abbreviated(scale / 2)
    lines = []
    for row, text in enumerate(chart):
        axis = characters.tick if row in labels else characters.axis
        lines.append(styled(Span(f"{labels.get(row, ''):>{AXIS_WIDTH - 2}} {axis}", "dim"), Span(text, "bar")))
    return lines


def _time_axis(state: PanelState) -> Line:
    recent = state.recent
    count = len(recent.columns)
    time_format = "%H:%M" if recent.width_s * TICK_COLUMNS >= 60 else "%H:%M:%S"
    text = " " * AXIS_WIDTH
    for at in range(0, count - TICK_COLUMNS // 2, TICK_COLUMNS):
        text = text.ljust(AXIS_WIDTH + at)
        text += (state.time - timedelta(seconds=(count - 1 - at) * recent.width_s)).strftime(time_format)
    return styled(Span(text.ljust(AXIS_WIDTH + count - 3) + "now", "dim"))


# ---------------------------------------------------------------- the distribution of reply times


def _reply_times(state: PanelState, large: LargeFormValues, column: int, characters: Characters) -> Block:
    total, buckets = state.replies.total, large.distribution
    if total.median_s is None or total.p95_s is None or total.longest_s is None or not buckets:
        return [styled(Span("seconds to the whole reply: ", "dim"), "none yet")]
    title = f"{total.median_s:.2g} median, {total.p95_s:.2g} p95, {total.longest_s:.2g} the longest"
    repeat = max((column - AXIS_WIDTH) // len(buckets) if len(buckets) < 24 else 1, 1)
    repeat = min(repeat, 3)
    shown = [count for _, count in buckets for _ in range(repeat)][: column - AXIS_WIDTH]
    highest = max(shown)
    chart = _with_axis(column_chart(shown, highest, LOW_ROWS, characters), highest, characters)
    return [styled(Span("seconds to the whole reply: ", "dim"), title), *chart, _duration_axis(buckets, repeat, column)]


def _duration_axis(buckets: Sequence[tuple[float, int]], repeat: int, column: int) -> Line:
    """The shortest, the powers of two, and the longest, where they stand."""
    powers = [at for at in range(1, len(buckets)) if floor(log2(buckets[at][0])) > floor(log2(buckets[at - 1][0]))]
    text = ""
    for at in (0, *powers, len(buckets) - 1):
        upper_s = buckets[at][0]
        place = AXIS_WIDTH + at * repeat
        if place > len(text):
            text = text.ljust(place) + duration(2.0 ** floor(log2(upper_s)) if at in powers else upper_s) + " "
    return styled(Span(text[:column], "dim"))


# ---------------------------------------------------------------- tables


def _models(models: Sequence[ModelShown], column: int) -> Block:
    name_width = column - NUMBERS_WIDTH
    numbers = f"{'done':>9}{'failed':>7}{'prompt':>7}{'reply':>7}{'USD':>8}{'1st token':>10}{'tokens/s':>9}"
    header = f"{'model':{name_width}}{numbers}"
    return [styled(Span(header, "dim")), *(_model(model, name_width) for model in models)]


def _model(model: ModelShown, name_width: int) -> Line:
    cost = UNKNOWN if model.cost_usd is None else f"{model.cost_usd:,.2f}"
    first = "" if model.first_token_s is None else duration(model.first_token_s)
    speed = "" if model.tokens_per_s is None else f"{model.tokens_per_s:,.0f}"
    failed: SpanStyle = "bad" if model.failed else ""
    return styled(
        f"{one_line(model.name or 'lines that are no job', name_width - 1):{name_width}}{model.done:>9,}",
        Span(f"{model.failed:>7,}", failed),
        f"{abbreviated(model.prompt_tokens):>7}{abbreviated(model.completion_tokens):>7}",
        f"{cost:>8}{first:>10}{speed:>9}",
    )


def _oldest(large: LargeFormValues) -> Block:
    header = f"{'the longest in flight':40}{'line':>10}{'attempt':>9}{'for':>9}"
    return [
        styled(Span(header, "dim")),
        *(
            styled(
                f"{one_line(each.request.custom_id, 38):40}{each.request.line:>10}{each.request.attempt:>9}"
                f"{duration(each.age_s):>9}"
            )
            for each in large.oldest
        ),
    ]


def _counts(state: PanelState, column: int) -> Block:
    entries: tuple[tuple[str, str, SpanStyle], ...] = (
        ("first token", first_token_text(state.replies), ""),
        ("tokens", tokens_text(state), ""),
        ("failed", counts_text(state.failed), "bad" if state.failed else ""),
        ("retried", counts_text(state.retried), "warning" if state.retried else ""),
        *((("workers", state.workers, ""),) if state.workers else ()),
    )
    return [cut_line(styled(Span(f"{label:13}", "dim"), Span(text, style)), column) for label, text, style in entries]


def _notices(large: LargeFormValues, column: int) -> Block:
    return [cut_line(styled(Span(f"{at:%H:%M:%S}  ", "dim"), one_line(text)), column) for at, text in large.notices[:4]]
