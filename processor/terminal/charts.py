"""Bars and charts of characters. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

from processor.core.fast_dataclass import dataclass

Values = Sequence[float | None]
"""One for each column; None where nothing is known."""


@dataclass(frozen=True, slots=True)
class Characters:
    """What charts are made of."""

    full: str
    empty: str
    """Both of the bar."""
    levels: str
    """Of a column, from the lowest to the full one."""
    axis: str
    tick: str
    separator: str


UNICODE = Characters("━", "─", "▁▂▃▄▅▆▇█", "│", "┤", " · ")
ASCII = Characters("#", "-", "_.:-=+*#", "|", "+", " | ")


def characters_for(encoding: str | None) -> Characters:
    """Those that a terminal of this encoding can show."""
    try:
        "".join((UNICODE.full, UNICODE.empty, UNICODE.levels, UNICODE.axis, UNICODE.tick)).encode(encoding or "ascii")
    except (UnicodeError, LookupError):
        return ASCII
    return UNICODE


def bar(share: float, columns: int, characters: Characters) -> tuple[str, str]:
    """The full part and the empty part."""
    full = min(int(share * columns), columns)
    return characters.full * full, characters.empty * (columns - full)


def sparkline(values: Values, scale: float, characters: Characters) -> str:
    """One row: the height of a column is its value, of ``scale``."""
    levels = characters.levels
    shares = (None if value is None else min(value / scale, 1.0) if scale else 0.0 for value in values)
    return "".join(" " if share is None else levels[max(ceil(share * len(levels)), 1) - 1] for share in shares)


def column_chart(values: Values, scale: float, rows: int, characters: Characters) -> list[str]:
    """As many rows as asked for, the highest first. A value of ``scale`` reaches the upper edge of the highest."""
    highest = rows * len(characters.levels)
    heights = (0 if value is None or not scale else min(round(value / scale * highest), highest) for value in values)
    return [
        "".join(row).rstrip() for row in zip(*(_column(height, rows, characters) for height in heights), strict=True)
    ]


@lru_cache(maxsize=1024)
def _column(height: int, rows: int, characters: Characters) -> str:
    """The cells of one column, from the top."""
    steps = len(characters.levels)
    parts = (height - row * steps for row in reversed(range(rows)))
    return "".join(" " if part <= 0 else characters.levels[min(part, steps) - 1] for part in parts)
