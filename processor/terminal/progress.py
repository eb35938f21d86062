"""When to show how far the run is, and where."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol, TextIO

from processor.core.events import Notice, OutageEnded, OutageStarted, RunEvent, Stopping
from processor.core.text import one_line
from processor.stats.run_stats import RunStats
from processor.terminal import console, status_line
from processor.terminal.formatting import plural
from processor.terminal.label_table import Style
from processor.terminal.live import LiveLines

Mode = Literal["live", "lines", "notices", "nothing"]


class Display(Protocol):
    period_s: float
    """Until the next time it wants to be shown something."""
    first_after_s: float

    def show(self, tally: RunStats, now: float) -> None: ...
    def say(self, text: str, style: Style) -> None: ...
    def close(self) -> None: ...


class PlainLines:
    """For a log: a line every ten seconds, later every minute, without escape codes."""

    first_after_s = 10.0
    longest_s = 60.0
    growth = 1.5

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.period_s = self.first_after_s

    def show(self, tally: RunStats, now: float) -> None:
        self.period_s = min(self.period_s * self.growth, self.longest_s)
        self.say(status_line.line(tally, now), "")

    def say(self, text: str, style: Style) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left on the screen."""


class Progress:
    """Shows a tally while it runs, and says what a person should read once.

    A listener, and a context manager inside a running event loop: it is drawn from the loop's own timers.
    """

    def __init__(self, tally: RunStats, mode: Mode, stream: TextIO | None = None) -> None:
        stream = console.stderr(stream)
        self._tally = tally
        self._mode = mode
        self._display: Display = LiveLines(stream) if mode == "live" else PlainLines(stream)
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, event: RunEvent) -> None:
        if self._mode == "nothing":
            return
        if (text := _message(event, self._tally.in_flight)) is not None:
            self._display.say(text, "warning")

    def say(self, text: str) -> None:
        """An answer to somebody who asked: shown in any mode, above what is redrawn."""
        self._display.say(text, "")

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
        self._display.show(self._tally, asyncio.get_running_loop().time())
        self._show_after(self._display.period_s)


def mode(*, progress: bool, quiet: bool, stream: TextIO | None = None) -> Mode:
    """``--quiet`` leaves only errors, ``--no-progress`` also what should be read once."""
    if quiet:
        return "nothing"
    if not progress:
        return "notices"
    return "live" if console.is_terminal(console.stderr(stream)) else "lines"


def _message(event: RunEvent, in_flight: int) -> str | None:
    """The line that the event is worth; None for most."""
    match event:
        case Notice():
            return one_line(event.text, 1000)
        case OutageStarted():
            return one_line(f"the provider is down: {event.message}; probing until it is back", 1000)
        case OutageEnded():
            return "the provider is back"
        case Stopping():
            return _stopping(event, in_flight)
    return None


def _stopping(event: Stopping, in_flight: int) -> str:
    why = f"stopping: {one_line(event.reason, 1000)}"
    if not in_flight or not event.grace_s:
        return why
    return f"{why}; {plural(in_flight, 'request')} in flight may still finish, Ctrl-C breaks them off"
