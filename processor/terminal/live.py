"""The live displays on a terminal: the panel, and two lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from textwrap import wrap
from typing import NamedTuple, TextIO

from processor.core.events import RunEvent
from processor.stats.run_stats import RunStats
from processor.terminal import console, large_panel, panel_layout, status_line
from processor.terminal.charts import ASCII, Characters, bar, characters_for
from processor.terminal.formatting import percent, printable
from processor.terminal.label_table import Style
from processor.terminal.live_region import LineShown, LiveRegion
from processor.terminal.panel_recorder import PanelRecorder
from processor.terminal.panel_values import Clock, panel_state
from processor.terminal.styled_line import (
    BLANK_LINE,
    SGR_CODES,
    SGR_CODES_WITHOUT_COLOUR,
    Line,
    Span,
    cut_line,
    line_width,
    styled,
    with_escape_codes,
)

PERIOD_S, LARGE_PERIOD_S = 0.5, 1.0
"""The large form costs three times as much to draw."""
FIRST_AFTER_S = 0.3
"""What draws is imported then: the first request has been sent before that."""
MIN_RUN_THAT_STAYS_S = 2.0
"""The last state of a shorter run, and of one that did nothing, would say less than the summary below it."""
SUSPENDED_AFTER_S = 4.0
"""After so long without a picture the process was suspended, and the shell has written below the lines."""


class Size(NamedTuple):
    """Of a terminal, in characters."""

    columns: int
    rows: int


def terminal_size(stream: TextIO) -> Size:
    """As the terminal itself says, else COLUMNS and LINES."""
    columns = rows = 0
    with suppress(OSError, ValueError, AttributeError):
        columns, rows = os.get_terminal_size(stream.fileno())
    return Size(columns or _from_environment("COLUMNS", 80), rows or _from_environment("LINES", 24))


def _from_environment(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() and int(value) else default


class _LiveDisplay:
    """Draws lines in place, and prints messages above them."""

    period_s = PERIOD_S
    first_after_s = FIRST_AFTER_S
    event_types: tuple[type[RunEvent], ...] = ()

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._region = LiveRegion(stream)
        self._characters = characters_for(getattr(stream, "encoding", None))
        self._codes = SGR_CODES_WITHOUT_COLOUR if os.environ.get("NO_COLOR") else SGR_CODES
        self._shown_at: float | None = None
        self._last: Sequence[LineShown] = ()
        self._needs_gap = False
        """A message stands right above."""

    def __call__(self, event: RunEvent) -> None:
        """Two lines need no events but those of the statistics."""

    def show(self, now: float) -> None:
        self._draw(now, is_over=False)

    def say(self, text: str, style: Style) -> None:
        size = terminal_size(self._stream)
        wrapped = (wrap(line, size.columns - 1, break_on_hyphens=False) or [""] for line in text.split("\n"))
        lines = [with_escape_codes((Span(line, style),), self._codes) for lines in wrapped for line in lines]
        self._region.print_above("\n".join(lines), size.columns, size.rows)
        self._needs_gap = True

    def close(self, now: float) -> bool:
        """Remove the lines. Return whether something stays."""
        size = terminal_size(self._stream)
        self._region.remove(size.columns, size.rows)
        return False

    def _draw(self, now: float, *, is_over: bool) -> None:
        size = terminal_size(self._stream)
        was_suspended = self._shown_at is not None and now - self._shown_at > SUSPENDED_AFTER_S
        self._shown_at = now
        if was_suspended or not console.is_in_foreground(self._stream):
            self._region.leave()
            self._needs_gap = True
        if console.is_in_foreground(self._stream):
            self._region.draw(self._shown(now, size, is_over=is_over), size.columns, size.rows)

    def _shown(self, now: float, size: Size, *, is_over: bool) -> list[LineShown]:
        room = size.rows - 1  # the cursor waits in a row of its own
        lines = self._lines(now, Size(size.columns, room), is_over=is_over)
        if self._needs_gap and len(lines) < room:
            lines = [BLANK_LINE, *lines]
        return [self._line_shown(line) for line in lines]

    def _line_shown(self, line: Line) -> LineShown:
        line = tuple(span if span.text.isprintable() else Span(printable(span.text), span.style) for span in line)
        text = with_escape_codes(line, self._codes)
        if self._characters is ASCII:
            text = text.encode("ascii", "replace").decode()
        return LineShown(text, line_width(line))

    def _lines(self, now: float, size: Size, *, is_over: bool) -> list[Line]:
        raise NotImplementedError


class LiveLines(_LiveDisplay):
    """Two lines, removed at the end because the summary repeats them."""

    def __init__(self, stream: TextIO, stats: RunStats) -> None:
        super().__init__(stream)
        self._stats = stats

    def _lines(self, now: float, size: Size, *, is_over: bool) -> list[Line]:
        return two_lines(self._stats, now, size.columns, self._characters)


class LivePanel(_LiveDisplay):
    """The panel, in the form that fits; its last state stays. A small terminal gets the two lines."""

    event_types = PanelRecorder.event_types

    def __init__(self, stream: TextIO, recorder: PanelRecorder, unix_time: Callable[[], float]) -> None:
        super().__init__(stream)
        self._recorder = recorder
        self._unix_time = unix_time

    def __call__(self, event: RunEvent) -> None:
        self._recorder(event)

    def close(self, now: float) -> bool:
        """Return whether something stays."""
        if self._shown_at is None:
            return False
        stats = self._recorder.stats
        if stats.elapsed_s(now) < MIN_RUN_THAT_STAYS_S or not (stats.done or stats.failed):
            return super().close(now)
        self._draw(now, is_over=True)
        self._region.leave()
        return True

    def _lines(self, now: float, size: Size, *, is_over: bool) -> list[Line]:
        recorder, columns, rows = self._recorder, size.columns, size.rows
        recorder.sample(now)
        clock = Clock(now, self._unix_time())
        self.period_s = PERIOD_S
        if columns < panel_layout.MIN_COLUMNS or rows < panel_layout.MIN_ROWS - 1:
            return two_lines(recorder.stats, now, columns, self._characters)
        if columns >= large_panel.MIN_COLUMNS and rows >= large_panel.MIN_ROWS - 1:
            self.period_s = LARGE_PERIOD_S
            width = large_panel.chart_columns(columns)
            state = panel_state(recorder, clock, columns=width, is_large=True, is_over=is_over)
            return large_panel.large_panel_lines(state, columns, rows, self._characters)
        width = panel_layout.chart_columns(columns)
        state = panel_state(recorder, clock, columns=width, is_large=False, is_over=is_over)
        return panel_layout.panel_lines(state, columns, rows, self._characters)


# ---------------------------------------------------------------- two lines


def two_lines(stats: RunStats, now: float, columns: int, characters: Characters) -> list[Line]:
    width = panel_layout.usable_width(columns)
    return [_bar(stats, now, width, characters), _details(stats, now, width, characters)]


def _bar(stats: RunStats, now: float, width: int, characters: Characters) -> Line:
    done_count = status_line.done_count(stats)
    share = status_line.finished_share(stats)
    if share is None:
        return styled(Span(f"{done_count} done", "bold"))
    time_left = status_line.time_left(stats, now)
    text = styled("  ", Span(done_count, "bold"), f"  {percent(share)}", f"  {time_left}" if time_left else "")
    full, empty = bar(share, max(width - line_width(text), 8), characters)
    return cut_line((Span(full, "bar"), Span(empty, "dim"), *text), width)


def _details(stats: RunStats, now: float, width: int, characters: Characters) -> Line:
    spans: list[Span] = []
    for detail in status_line.fit_width(status_line.details(stats, now), width, len(characters.separator)):
        if spans:
            spans.append(Span(characters.separator, "dim"))
        if detail.label:
            spans.append(Span(f"{detail.label} ", "dim"))
        spans.append(Span(detail.value, detail.style))
    return cut_line(tuple(spans), width)
