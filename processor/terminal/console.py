"""Writing to stderr. A closed pipe or a vanished terminal never stops a run."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from processor.core.text import one_line

if TYPE_CHECKING:
    from rich.console import Console

MAX_ERROR_CHARS = 2000


class NonRaisingStream:
    """A text stream that drops what it cannot write: to a closed pipe, a full disk, a vanished terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        with suppress(ValueError):
            return self._stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def stderr(stream: TextIO | None = None) -> TextIO:
    """The given stream, else the present stderr, as a NonRaisingStream."""
    return cast(TextIO, NonRaisingStream(stream if stream is not None else sys.stderr))


def is_terminal(stream: TextIO) -> bool:
    """Whether escape codes work there. FORCE_COLOR and similar variables do not make a terminal of a log."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_redrawable(stream: TextIO) -> bool:
    """Whether lines can be redrawn there, and are wanted: a screen reader would read each picture aloud again.

    ACCESSIBLE is a convention of several programs: https://github.com/charmbracelet/huh#accessibility.
    """
    return is_terminal(stream) and os.environ.get("ACCESSIBLE", "") in ("", "0") and _shows_escape_codes()


def _shows_escape_codes() -> bool:
    """Older consoles of Windows show them only where the program asks for it."""
    return os.name != "nt" or any(name in os.environ for name in ("WT_SESSION", "TERM_PROGRAM", "TERM"))


def is_in_foreground(stream: TextIO) -> bool:
    """Whether the process may write to the terminal without disturbing what a person does there meanwhile.

    A command that was sent to the background shares its terminal with the shell.
    """
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # no terminal of this session, or a system without process groups
        return True


def is_typed() -> bool:
    """Whether a person is to type what is read from stdin."""
    with suppress(OSError, ValueError):
        return os.isatty(0)
    return False


def rich_console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)


def print_error(message: str, stream: TextIO | None = None) -> None:
    """Prints one line: what is wrong, and what to do about it."""
    stream = stderr(stream)
    text = one_line(message, max_chars=MAX_ERROR_CHARS)
    if is_terminal(stream):
        from rich.text import Text

        rich_console(stream).print(Text.assemble(("error: ", "bold red"), text), soft_wrap=True)
    else:
        stream.write(f"error: {text}\n")
        stream.flush()
