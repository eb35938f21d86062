"""The live lines on a terminal. The only place that draws with rich more than once."""

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

WIDEST = 120
"""Beyond this a bar only gets longer, and the eye has further to go."""


class LiveLines:
    """Two lines that are drawn over, and gone at the end: the summary says it all again."""

    period_s = 0.25
    first_after_s = 0.3
    """rich takes 80 ms to import: the first request is on its way by then."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live: Live | None = None

    def show(self, tally: RunStats, now: float) -> None:
        live = self._started()
        live.update(_lines(tally, now, min(live.console.width, WIDEST)), refresh=True)

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
                # Replies may go to stdout: it is not ours to wrap.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self._live


def _lines(tally: RunStats, now: float, width: int) -> Group:
    from rich.console import Group

    return Group(_bar(tally, now, width), _details(tally, now, width))


def _bar(tally: RunStats, now: float, width: int) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    share = status_line.share(tally)
    if share is None:
        return Text(f"{status_line.counted(tally)} done", style="bold")
    words = Text.assemble((status_line.counted(tally), "bold"), f"  {percent(share)}", no_wrap=True)
    left = status_line.left(tally, now)
    if left:
        words.append(f"  {left}")
    grid = Table.grid(padding=(0, 2, 0, 0))
    bar_width = max(width - words.cell_len - 3, 10)
    grid.add_row(ProgressBar(total=1, completed=share, width=bar_width, complete_style="cyan"), words)
    return grid


def _details(tally: RunStats, now: float, width: int) -> Text:
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    for detail in status_line.fit(status_line.details(tally, now), width - 1, len(SEPARATOR)):
        if text:
            text.append(SEPARATOR, style="dim")
        if detail.label:
            text.append(f"{detail.label} ", style="dim")
        text.append(detail.value, style=COLOURS[detail.style])
    return text
