"""When and where the progress of a run is shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Literal, Protocol, TextIO

from processor.core.events import (
    BottleneckChanged,
    Notice,
    OutageContinues,
    OutageEnded,
    OutageStarted,
    RunEvent,
    Stopping,
)
from processor.core.secrets import mask_text
from processor.core.text import one_line
from processor.stats.run_stats import RunStats
from processor.terminal import console, status_line
from processor.terminal.formatting import duration, plural, printable
from processor.terminal.label_table import Style
from processor.terminal.panel_recorder import PanelContext, PanelRecorder, RunDetails

ProgressChoice = Literal["auto", "panel", "line", "log", "none"]
"""What a user may ask for."""

Mode = Literal["panel", "line", "log", "notices", "nothing"]
"""A panel, or two lines, redrawn in place; lines appended to a log; only messages; of these only warnings."""

MAX_MESSAGE_CHARS = 1000


class Display(Protocol):
    """Shows the progress somewhere."""

    period_s: float
    """Time until the next call of ``show``."""
    first_after_s: float
    """Time until the first call of ``show``."""

    @property
    def event_types(self) -> tuple[type[RunEvent], ...]:
        """Of the events that it is called with."""

    def __call__(self, event: RunEvent) -> None: ...
    def show(self, now: float) -> None: ...
    def say(self, text: str, style: Style) -> None: ...
    def close(self, now: float) -> bool: ...


class MessagesOnly:
    """Prints messages, and no progress."""

    period_s = first_after_s = 0.0
    event_types: tuple[type[RunEvent], ...] = ()

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: RunEvent) -> None:
        """No event changes what is shown."""

    def show(self, now: float) -> None:
        """There is nothing to show."""

    def say(self, text: str, style: Style) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self, now: float) -> bool:
        return False


class LogLines(MessagesOnly):
    """For a log: a line after ten seconds, then at growing intervals up to a minute, and at each change of state.

    Each begins with the time of day. No escape codes.
    """

    first_after_s = 10.0
    max_period_s = 60.0
    period_growth = 1.5
    min_cool_down_s = 5.0
    """A shorter cool-down is no change of state."""
    event_types: tuple[type[RunEvent], ...] = (BottleneckChanged, OutageStarted, OutageEnded, Stopping)

    def __init__(self, stream: TextIO, stats: RunStats, unix_time: Callable[[], float]) -> None:
        super().__init__(stream)
        self.period_s = self.first_after_s
        self._stats = stats
        self._unix_time = unix_time
        self._is_cooling_down = False

    def __call__(self, event: RunEvent) -> None:
        """Add a line where the state changes. The message of an event is printed before."""
        if isinstance(event, BottleneckChanged):
            was_cooling_down = self._is_cooling_down
            self._is_cooling_down = event.bottleneck == "cool_down" and self._is_long(event.at)
            if self._is_cooling_down != was_cooling_down:
                self._write_status(event.at)
        elif isinstance(event, OutageStarted | OutageEnded | Stopping):
            self._write_status(event.at)

    def show(self, now: float) -> None:
        self.period_s = min(self.period_s * self.period_growth, self.max_period_s)
        self._write_status(now)

    def say(self, text: str, style: Style) -> None:
        stamp = datetime.fromtimestamp(self._unix_time()).astimezone().isoformat(timespec="seconds")
        super().say(f"{stamp} {text}", style)

    def _write_status(self, now: float) -> None:
        self.say(status_line.log_text(self._stats, now, self._unix_time()), "")

    def _is_long(self, now: float) -> bool:
        next_at = self._stats.next_start_at()
        return next_at is not None and next_at - now >= self.min_cool_down_s


class Progress:
    """Shows statistics while a run is working, and prints the messages of its events.

    A listener, and a context manager inside a running event loop: it is drawn by the loop's timers.
    """

    def __init__(
        self,
        stats: RunStats,
        mode: Mode,
        stream: TextIO | None = None,
        *,
        context: PanelContext | None = None,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.details = RunDetails()
        self._stats = stats
        self.mode = mode
        recorder = PanelRecorder(stats, context or PanelContext(), self.details)
        self._display = _display(mode, console.stderr(stream), recorder, unix_time)
        self._timer: asyncio.TimerHandle | None = None
        self.event_types = (
            *(Notice, OutageStarted, OutageContinues, OutageEnded, Stopping),
            *self._display.event_types,
        )
        self._is_drawn = False
        self.has_printed = False
        """Whether something was printed that stays."""

    def __call__(self, event: RunEvent) -> None:
        if (text := self._message(event)) is not None:
            self._say(text, "warning")
        if isinstance(event, self._display.event_types):
            self._display(event)

    def _message(self, event: RunEvent) -> str | None:
        if self.mode == "nothing" and not (isinstance(event, Notice) and event.is_warning):
            return None
        if isinstance(event, OutageContinues) and self.mode != "notices":
            return None  # the status says it
        return _message(event, self._stats.in_flight)

    def say(self, text: str) -> None:
        """Prints a text that the user asked for, in any mode, above the live lines."""
        self._say(text, "")

    @property
    def is_redrawn(self) -> bool:
        """Whether the progress depends on the size of a terminal."""
        return self.mode in ("panel", "line")

    def redraw(self) -> None:
        """Draw at once, if anything was drawn yet: the size of the terminal has changed."""
        if self._is_drawn:
            self._display.show(asyncio.get_running_loop().time())

    def _say(self, text: str, style: Style) -> None:
        self.has_printed = True
        self._display.say(printable(mask_text(text)), style)

    def __enter__(self) -> Progress:
        if self.mode in ("panel", "line", "log"):
            self._show_after(self._display.first_after_s)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._is_drawn = False
        self.has_printed |= self._display.close(asyncio.get_running_loop().time())

    def _show_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._show)

    def _show(self) -> None:
        self._is_drawn = True
        self.has_printed |= self.mode == "log"
        self._display.show(asyncio.get_running_loop().time())
        self._show_after(self._display.period_s)


def _display(mode: Mode, stream: TextIO, recorder: PanelRecorder, unix_time: Callable[[], float]) -> Display:
    if mode == "log":
        return LogLines(stream, recorder.stats, unix_time)
    if mode not in ("panel", "line"):
        return MessagesOnly(stream)
    from processor.terminal.live import LiveLines, LivePanel

    return LiveLines(stream, recorder.stats) if mode == "line" else LivePanel(stream, recorder, unix_time)


def choose_mode(choice: ProgressChoice, *, quiet: bool, is_shared: bool = False, stream: TextIO | None = None) -> Mode:
    """``none`` leaves messages, ``--quiet`` only errors. What cannot be redrawn gets a log.

    ``is_shared``: jobs are typed at this terminal, or results printed there, so that ``auto`` redraws nothing.
    """
    if quiet:
        return "nothing"
    if choice == "none":
        return "notices"
    if choice == "log" or not console.is_redrawable(console.stderr(stream)) or (choice == "auto" and is_shared):
        return "log"
    return "line" if choice == "line" else "panel"


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
    return f"{text}; waiting for {plural(in_flight, 'request')} in flight, Ctrl-C or SIGTERM aborts them"
