"""Labelled lines: what is said before a run and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

from processor.terminal import console

Style = Literal["", "good", "bad", "warning", "command"]

COLOURS: dict[Style, str] = {"": "", "good": "green", "bad": "red", "warning": "yellow", "command": "bold cyan"}

GAP = 2


@dataclass(frozen=True, slots=True)
class LabelRow:
    label: str
    """Empty where the row goes on with what the one above began."""
    text: str
    style: Style = ""


BLANK = LabelRow("", "")


def plain(rows: Sequence[LabelRow]) -> str:
    """Aligned, without colours, and unwrapped: a log is searched line by line."""
    width = _label_width(rows)
    return "".join(f"{row.label:{width}}{row.text}".rstrip() + "\n" for row in rows)


def show(rows: Sequence[LabelRow], stream: TextIO | None = None) -> None:
    """On a terminal coloured and wrapped to its width, else ``plain``."""
    stream = console.stderr(stream)
    if console.is_terminal(stream):
        _draw(rows, stream)
    else:
        stream.write(plain(rows))
        stream.flush()


def _draw(rows: Sequence[LabelRow], stream: TextIO) -> None:
    from rich.text import Text

    output = console.rich_console(stream)
    width = _label_width(rows)
    for row in rows:
        label = f"{row.label:{width}}"
        text = Text(row.text, style=COLOURS[row.style])
        # A command is wrapped by the terminal itself, so that it can be copied as one line.
        is_command = row.style == "command"
        for line in [text] if is_command else text.wrap(output, max(output.width - width, 20)):
            output.print(Text.assemble((label, "dim"), line), soft_wrap=is_command)
            label = " " * width


def _label_width(rows: Sequence[LabelRow]) -> int:
    return max((len(row.label) for row in rows), default=0) + GAP
