"""Formats numbers and texts for people."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import datetime

MAX_LINE_CHARS = 160
"""Of a text from outside that is shown within a line of our own."""

BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters"""

MAX_WORKERS_NAMED = 4

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400

_UNITS = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def plural(number: int, one: str, many: str | None = None) -> str:
    """``1 job``, ``2,000 jobs``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def abbreviated(number: float) -> str:
    """``9,999``, ``12k``, ``181k``, ``1.2M``: five characters at most."""
    if number < 9_999.5:
        return f"{number:,.0f}"
    unit = next((unit for unit in _UNITS if number < 999.5 * _UNITS[unit]), "G")
    number /= _UNITS[unit]
    return f"{number:.1f}{unit}" if number < 9.95 else f"{number:.0f}{unit}"


def duration(seconds: float) -> str:
    """``0.42 s``, ``3.1 s``, ``42 s``, ``3m 20s``, ``1h 05m``, ``2d 03h``."""
    if seconds < 59.5:
        digits = 2 if seconds < 0.995 else 1 if seconds < 9.95 else 0
        return f"{seconds:.{digits}f} s"
    whole = round(seconds)
    if whole < HOUR_S:
        return f"{whole // MINUTE_S}m {whole % MINUTE_S:02}s"
    if whole < DAY_S:
        return f"{whole // HOUR_S}h {whole % HOUR_S // MINUTE_S:02}m"
    return f"{whole // DAY_S}d {whole % DAY_S // HOUR_S:02}h"


def clock_time(at: datetime, now: datetime) -> str:
    """``04:28``, with the day where it is another one."""
    if at.date() == now.date():
        return f"{at:%H:%M}"
    return f"{at:%a %H:%M}" if abs((at - now).days) < 6 else f"{at:%Y-%m-%d %H:%M}"


def size(number: float) -> str:
    """Bytes as ``12 KiB`` or ``3,400 MiB``."""
    mib = number / 2**20
    return f"{mib:,.0f} MiB" if mib >= 1 else f"{number / 2**10:,.0f} KiB"


def percent(share: float) -> str:
    """``82%``; ``<1%`` and ``>99%`` where rounding would give 0% or 100%."""
    if 0 < share < 0.005:
        return "<1%"
    if 0.995 <= share < 1:
        return ">99%"
    return f"{share:.0%}"


def joined(parts: list[str]) -> str:
    return " · ".join(parts)


def workers_text(in_flight: Mapping[str, int], lost: int) -> str:
    """``3, with 12, 14, 9 in flight; 1 lost``; empty without workers. Of many workers only the least and the most."""
    if not in_flight and not lost:
        return ""
    counts = list(in_flight.values())
    if len(counts) > MAX_WORKERS_NAMED:
        least, most = min(counts), max(counts)
        requests = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        requests += " each"
    else:
        requests = ", ".join(f"{count:,}" for count in counts)
    at_work = f"{len(counts):,}, with {requests} in flight" if counts else "0"
    return at_work + (f"; {lost:,} lost" if lost else "")


def printable(text: str) -> str:
    """Replaces what could move the cursor or change colours, in a text of several lines from a server or model."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_unprintable(char) else char for char in text)


def _is_unprintable(char: str) -> bool:
    """Control characters, those that change the direction of writing, which can make a line read as another one, and
    halves of surrogate pairs, which cannot be encoded."""
    if unicodedata.category(char) in ("Cc", "Cs"):
        return char not in "\n\t"
    return char in BIDI_CONTROLS
