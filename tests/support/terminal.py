"""Terminals for tests: a stream that is one, and a screen that shows what was written to it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

ESCAPE_CODE = re.compile(r"\x1b\[([0-9;?]*)([a-zA-Z])")


class FakeTerminal(io.StringIO):
    """A terminal in memory. Its size is that of ``COLUMNS`` and ``LINES``."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def without_escape_codes(text: str) -> str:
    return ESCAPE_CODE.sub("", text)


@dataclass(slots=True)
class _Row:
    text: str = ""
    continues: bool = False
    """The line goes on in the next row, because the terminal has wrapped it."""


@dataclass(slots=True)
class Screen:
    """Knows the escape codes that the program uses, wraps lines, and wraps them anew where its width changes, as most
    terminals do. Every character takes one column."""

    columns: int = 80
    height: int = 24
    _rows: list[_Row] = field(default_factory=lambda: [_Row()])
    """All rows since the start, those that have scrolled away included."""
    _top: int = 0
    _row: int = 0
    _column: int = 0

    @property
    def lines(self) -> list[str]:
        """All lines since the start, without blanks at their ends."""
        return [text.rstrip() for text in self._logical_lines()]

    @property
    def visible(self) -> list[str]:
        return [row.text.rstrip() for row in self._rows[self._top :]]

    def feed(self, text: str) -> None:
        position = 0
        for match in ESCAPE_CODE.finditer(text):
            self._put_all(text[position : match.start()])
            self._obey(match[1], match[2])
            position = match.end()
        self._put_all(text[position:])

    def resize(self, columns: int, height: int) -> None:
        before = self._row
        while before and self._rows[before - 1].continues:
            before -= 1
        place = sum(not row.continues for row in self._rows[:before])
        offset = sum(len(row.text) for row in self._rows[before : self._row]) + self._column
        lines = self._logical_lines()
        self.columns, self.height = columns, height
        self._rows = []
        for at, line in enumerate(lines):
            if at == place:
                self._row, self._column = len(self._rows) + offset // columns, offset % columns
            pieces = [line[start : start + columns] for start in range(0, max(len(line), 1), columns)]
            self._rows += [_Row(piece, continues=piece is not pieces[-1]) for piece in pieces]
        self._top = max(len(self._rows) - height, 0)

    def _logical_lines(self) -> list[str]:
        lines = [""]
        for row in self._rows:
            lines[-1] += row.text
            if not row.continues:
                lines.append("")
        return lines[:-1]

    def _put_all(self, text: str) -> None:
        for char in text:
            self._put(char)

    def _put(self, char: str) -> None:
        if char == "\r":
            self._column = 0
        elif char == "\n":
            self._next_row()
            self._column = 0
        else:
            if self._column == self.columns:
                self._rows[self._row].continues = True
                self._next_row()
                self._column = 0
            row = self._rows[self._row]
            text = row.text.ljust(self._column)
            row.text = text[: self._column] + char + text[self._column + 1 :]
            self._column += 1

    def _next_row(self) -> None:
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append(_Row())
        self._top = max(self._top, self._row - self.height + 1)

    def _obey(self, number: str, code: str) -> None:
        count = int(number) if number.isdecimal() else 1
        if code == "A":
            self._row = max(self._row - count, self._top)
        elif code == "B":
            self._row = min(self._row + count, self._top + self.height - 1)
        elif code == "K":
            self._clear(range(self._row, self._row))
        elif code == "J":
            self._clear(range(self._row + 1, len(self._rows)))
        else:
            assert code == "m", f"an escape code that is not known here: {code}"

    def _clear(self, below: Iterable[int]) -> None:
        row = self._rows[self._row]
        row.text, row.continues = row.text[: self._column], False
        for number in below:
            self._rows[number] = _Row()


def screen_of(text: str, columns: int = 80, height: int = 24) -> Screen:
    screen = Screen(columns, height)
    screen.feed(text)
    return screen
