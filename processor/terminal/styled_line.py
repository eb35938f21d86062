"""Lines of styled text: how wide they are, how they are cut, and the escape codes that show them. Pure.

``rich`` draws what is printed once. What is redrawn twice a second needs only this much of it, and draws faster.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from processor.core.fast_dataclass import dataclass

SpanStyle = Literal["", "good", "bad", "warning", "command", "bar", "bold", "dim"]

SGR_CODES: dict[SpanStyle, str] = {
    "": "",
    "good": "32",
    "bad": "1;31",
    "warning": "33",
    "command": "1;36",
    "bar": "36",
    "bold": "1",
    "dim": "2",
}
"""https://en.wikipedia.org/wiki/ANSI_escape_code#Select_Graphic_Rendition_parameters"""
SGR_CODES_WITHOUT_COLOUR: dict[SpanStyle, str] = {
    style: "1" if code.startswith("1") else "2" if code == "2" else "" for style, code in SGR_CODES.items()
}

ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line in one style."""

    text: str
    style: SpanStyle = ""


Line = tuple[Span, ...]

BLANK_LINE: Line = ()


def styled(*parts: Span | str) -> Line:
    return tuple(part if isinstance(part, Span) else Span(part) for part in parts)


@lru_cache(maxsize=1024)
def text_width(text: str) -> int:
    """The columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def line_width(line: Line) -> int:
    return sum(text_width(span.text) for span in line)


def cut_text(text: str, columns: int) -> str:
    """The text, or as much of it as fits, with an ellipsis at its end."""
    if text_width(text) <= columns:
        return text
    if columns < 1:
        return ""
    from rich.cells import set_cell_size

    return set_cell_size(text, columns - 1).rstrip() + ELLIPSIS


def cut_line(line: Line, columns: int) -> Line:
    kept: list[Span] = []
    left = columns
    for span in line:
        width = text_width(span.text)
        if width > left:
            kept.append(Span(cut_text(span.text, left), span.style))
            break
        kept.append(span)
        left -= width
    return tuple(kept)


def padded(line: Line, columns: int) -> Line:
    """The line with blanks up to this width, or cut to it."""
    line = cut_line(line, columns)
    return (*line, Span(" " * (columns - line_width(line))))


def spread(left: Line, right: Line, columns: int) -> Line:
    """One part at the left and one at the right. The left one is cut where both do not fit."""
    room = columns - line_width(right) - 2
    if not right or room < 1:
        return cut_line(left, columns)
    left = cut_line(left, room)
    return (*left, Span(" " * (columns - line_width(left) - line_width(right))), *right)


def with_escape_codes(line: Line, codes: dict[SpanStyle, str]) -> str:
    """What shows the line on a terminal, without blanks at its end."""
    return "".join(_shown(span, codes[span.style]) for span in _without_blank_end(line))


def _without_blank_end(line: Line) -> Line:
    while line and not line[-1].text.strip():
        line = line[:-1]
    return (*line[:-1], Span(line[-1].text.rstrip(), line[-1].style)) if line else line


def _shown(span: Span, code: str) -> str:
    return f"\x1b[{code}m{span.text}\x1b[0m" if code and span.text.strip() else span.text
