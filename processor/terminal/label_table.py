"""Rows with a label in front, as in the banner and the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TextIO

from processor.core.fast_dataclass import dataclass
from processor.core.secrets import mask_text
from processor.terminal import console
from processor.terminal.formatting import printable

Style = Literal["", "good", "bad", "warning", "command"]

COLOURS: dict[Style, str] = {"": "", "good": "green", "bad": "red", "warning": "yellow", "command": "bold cyan"}

LABEL_GAP = 2
MIN_TEXT_WIDTH = 20


@dataclass(frozen=True, slots=True)
class LabelRow:
    label: str
    """Empty where the row continues the one above."""
    text: str
    style: Style = ""


BLANK = LabelRow("", "")


def plain_text(rows: Sequence[LabelRow]) -> str:
    """Aligned rows without colours. Not wrapped, so that a log can be searched line by line."""
    rows = [_shown(row) for row in rows]
    width = _label_width(rows)
    return "".join(f"{row.label:{width}}{row.text}".rstrip() + "\n" for row in rows)


def print_rows(rows: Sequence[LabelRow], stream: TextIO | None = None) -> None:
    """Coloured and wrapped to the width of a terminal, else as ``plain_text``."""
    stream = console.stderr(stream)
    if console.is_terminal(stream):
        _draw(rows, stream)
    else:
        stream.write(plain_text(rows))
        stream.flush()


def _draw(rows: Sequence[LabelRow], stream: TextIO) -> None:
    from rich.text import Text

    output = console.rich_console(stream)
    rows = [_shown(row) for row in rows]
    width = _label_width(rows)
    for row in rows:
        label = f"{row.label:{width}}"
        text = Text(row.text, style=COLOURS[row.style])
        # The terminal itself wraps a command, so that it can be copied as one line.
        is_command = row.style == "command"
        lines = [text] if is_command else text.wrap(output, max(output.width - width, MIN_TEXT_WIDTH))
        for line in lines:
            output.print(Text.assemble((label, "dim"), line), soft_wrap=is_command)
            label = " " * width


def _shown(row: LabelRow) -> LabelRow:
    """The row without secrets and control characters, which names of files, models and jobs may hold."""
    return replace(row, text=printable(mask_text(row.text)).replace("\n", " "))


def _label_width(rows: Sequence[LabelRow]) -> int:
    return max((len(row.label) for row in rows), default=0) + LABEL_GAP
