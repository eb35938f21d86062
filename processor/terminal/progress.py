"""When and where the progress of a run is shown."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol, TextIO

from processor.core.events import Notice, OutageContinues, OutageEnded, OutageStarted, RunEvent, Stopping
from processor.core.secrets import mask_text
from processor.core.text import one_line
from processor.stats.run_stats import RunStats
from processor.terminal import console, status_line
from processor.terminal.formatting import duration, plural, printable
from processor.terminal.label_table import Style
from processor.terminal.live import LiveLines

Mode = Literal["live", "lines", "notices", "nothing"]
"""Lines redrawn in place; lines appended to a log; only messages; of these only warnings."""

MAX_MESSAGE_CHARS = 1000


class Display(Protocol):
    period_s: float
    """Time until the next call of ``show``."""
    first_after_s: float
    """Time until the first call of ``show``."""

    def show(self, stats: RunStats, now: float) -> None: ...
    def say(self, text: str, style: Style) -> None: ...
    def close(self) -> None: ...


class PlainLines:
    """For a log: a line after ten seconds, then at growing intervals up to a minute, without escape codes."""

    first_after_s = 10.0
    max_period_s = 60.0
    period_growth = 1.5

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.period_s = self.first_after_s

    def show(self, stats: RunStats, now: float) -> None:
        self.period_s = min(self.period_s * self.period_growth, self.max_period_s)
        self.say(status_line.status_text(stats, now), "")

    def say(self, text: str, style: Style) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing has to be removed from a log."""


class Progress:
    """Shows statistics while a run is working, and prints the messages of its events.

    A listener, and a context manager inside a running event loop: it is drawn by the loop's timers.
    """

    event_types = (Notice, OutageStarted, OutageContinues, OutageEnded, Stopping)

    def __init__(self, stats: RunStats, mode: Mode, stream: TextIO | None = None) -> None:
        stream = console.stderr(stream)
        self._stats = stats
        self._mode = mode
        self._display: Display = LiveLines(stream) if mode == "live" else PlainLines(stream)
        self._timer: asyncio.TimerHandle | None = None
        self.has_printed = False
        """Whether a line was printed that stays."""

    def __call__(self, event: RunEvent) -> None:
        if self._mode == "nothing" and not (isinstance(event, Notice) and event.is_warning):
            return
        if isinstance(event, OutageContinues) and self._mode != "notices":
            return  # the status line says it
        if (text := _message(event, self._stats.in_flight)) is not None:
            self._say(text, "warning")

    def say(self, text: str) -> None:
        """Prints a text that the user asked for, in any mode, above the live lines."""
        self._say(text, "")

    def _say(self, text: str, style: Style) -> None:
        self.has_printed = True
        self._display.say(printable(mask_text(text)), style)

    def __enter__(self) -> Progress:
        if self._mode in ("live", "lines"):
            self._show_after(self._display.first_after_s)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._display.close()

    def _show_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._show)

    def _show(self) -> None:
        self.has_printed |= self._mode == "lines"
        self._display.show(self._stats, asyncio.get_running_loop().time())
        self._show_after(self._display.period_s)


def choose_mode(*, progress: bool, quiet: bool, stream: TextIO | None = None) -> Mode:
    """``--no-progress`` leaves messages, ``--quiet`` only errors."""
    if quiet:
        return "nothing"
    if not progress:
        return "notices"
    return "live" if console.is_terminal(console.stderr(stream)) else "lines"


def _message(event: RunEvent, in_flight: int) -> str | None:
    """The line to print for the event; None for most events."""
    match event:
        case Notice():
            return one_line(event.text, max_chars=MAX_MESSAGE_CHARS)
        case OutageStarted():
            return one_line(
                f"the provider is down: {event.message}; probing until it is back", max_chars=MAX_MESSAGE_CHARS
            )
        case OutageContinues():
            return f"the provider is still down after {duration(event.down_s)}"
        case OutageEnded():
            return "the provider is back"
        case Stopping():
            return _stopping(event, in_flight)
    return None


def _stopping(event: Stopping, in_flight: int) -> str:
    text = f"stopping: {one_line(event.reason, max_chars=MAX_MESSAGE_CHARS)}"
    if not in_flight or not event.grace_s:
        return text
    return f"{text}; waiting for {plural(in_flight, 'request')} in flight, press Ctrl-C to abort them"
