"""The live status on a terminal, drawn with rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from processor.stats.run_stats import RunStats
from processor.terminal import console, status_line
from processor.terminal.formatting import percent
from processor.terminal.label_table import COLOURS, Style

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.live import Live
    from rich.text import Text

SEPARATOR = " · "

MAX_WIDTH = 120
"""Columns; a longer bar is harder to read and shows nothing more."""


class LiveLines:
    """Two lines that are redrawn in place, and removed at the end because the summary repeats them."""

    period_s = 0.25
    first_after_s = 0.3
    """Importing rich takes 80 ms: the first request is sent before that."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live: Live | None = None

    def show(self, stats: RunStats, now: float) -> None:
        live = self._started()
        live.update(_lines(stats, now, min(live.console.width, MAX_WIDTH)), refresh=True)

    def say(self, text: str, style: Style) -> None:
        from rich.text import Text

        self._started().console.print(Text(text, style=COLOURS[style]))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _started(self) -> Live:
        if self._live is None:
            from rich.live import Live

            self._live = Live(
                console=console.rich_console(self._stream),
                auto_refresh=False,
                transient=True,
                # stdout may carry the results: rich must not wrap it.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self._live


def _lines(stats: RunStats, now: float, width: int) -> Group:
    from rich.console import Group

    return Group(_bar(stats, now, width), _details(stats, now, width))


def _bar(stats: RunStats, now: float, width: int) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    done_count = status_line.done_count(stats)
    share = status_line.finished_share(stats)
    if share is None:
        return Text(f"{done_count} done", style="bold")
    text = Text.assemble((done_count, "bold"), f"  {percent(share)}", no_wrap=True)
    time_left = status_line.time_left(stats, now)
    if time_left:
        text.append(f"  {time_left}")
    grid = Table.grid(padding=(0, 2, 0, 0))
    bar_width = max(width - text.cell_len - 3, 10)
    grid.add_row(ProgressBar(total=1, completed=share, width=bar_width, complete_style="cyan"), text)
    return grid


def _details(stats: RunStats, now: float, width: int) -> Text:
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    for detail in status_line.fit_width(status_line.details(stats, now), width - 1, len(SEPARATOR)):
        if text:
            text.append(SEPARATOR, style="dim")
        if detail.label:
            text.append(f"{detail.label} ", style="dim")
        text.append(detail.value, style=COLOURS[detail.style])
    return text
