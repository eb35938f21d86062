"""Lines at the lower end of a terminal that are redrawn in place, below what is printed.

One write for a frame, of the lines that have changed, text first: an erased line would be seen as flicker where the
terminal is slow. The cursor waits below the last line, so that what others print does not tear one apart. No alternate
screen, no hidden cursor, no raw mode: whatever ends the process leaves the terminal as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TextIO

CLEAR_TO_END_OF_LINE = "\x1b[K"
CLEAR_BELOW = "\x1b[J"


class LineShown(NamedTuple):
    """A line with its escape codes."""

    text: str
    width: int
    """Columns that it takes; fewer than the terminal has."""


class LiveRegion:
    """Remembers what stands on the terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[LineShown] = []

    @property
    def is_empty(self) -> bool:
        return not self._lines

    def draw(self, lines: Sequence[LineShown], columns: int, rows: int) -> None:
        """Show these lines in place of the present ones, on a terminal of this size."""
        self._write(self._rewrapped(columns, rows) + self._changes(lines))

    def print_above(self, text: str, columns: int, rows: int) -> None:
        """Print a text that stays, above the lines."""
        lines = list(self._lines)
        start = self._to_top(columns, rows) + CLEAR_BELOW if lines else ""
        self._lines = []
        self._write(start + text + "\n" + self._changes(lines))

    def remove(self, columns: int, rows: int) -> None:
        if self._lines:
            self._write(self._to_top(columns, rows) + CLEAR_BELOW)
            self.leave()

    def leave(self) -> None:
        """Let the lines stand; what is drawn next comes below them."""
        self._lines = []

    # ---------------------------------------------------------------- what is written

    def _rewrapped(self, columns: int, rows: int) -> str:
        """What removes lines that a narrower terminal has wrapped: these are more rows than lines."""
        if all(line.width < columns for line in self._lines):
            return ""
        start = self._to_top(columns, rows) + CLEAR_BELOW
        self._lines = []
        return start

    def _to_top(self, columns: int, rows: int) -> str:
        """What moves the cursor to the first line, at most to the top of the screen."""
        height = sum(max(-(-line.width // columns), 1) for line in self._lines)
        return _up(min(height, rows - 1)) + "\r"

    def _changes(self, lines: Sequence[LineShown]) -> str:
        old, self._lines = self._lines, list(lines)
        parts = ["\n" * max(len(lines) - len(old), 0)]
        row = max(len(lines), len(old))
        for at, line in enumerate(lines):
            if at < len(old) and old[at] == line:
                continue
            parts += (_moved(row, at), "\r", line.text, CLEAR_TO_END_OF_LINE)
            row = at
        if len(parts) == 1 and len(lines) == len(old):
            return ""
        parts += (_moved(row, len(lines)), "\r", CLEAR_BELOW if len(lines) < len(old) else CLEAR_TO_END_OF_LINE)
        return "".join(parts)

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()


def _moved(row: int, to_row: int) -> str:
    return _up(row - to_row) if to_row < row else f"\x1b[{to_row - row}B" if to_row > row else ""


def _up(rows: int) -> str:
    return f"\x1b[{rows}A" if rows > 0 else ""
