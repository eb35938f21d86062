"""How long an error answer asks to wait."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|minutes?|m|seconds?|s|hours?|h)"
_PARTS = re.compile(_PART, re.IGNORECASE)
_ASKED = re.compile(rf"\b(?:try again|retry) (?:in|after) (?:{_PART} ?)+", re.IGNORECASE)


def retry_after(headers: Mapping[str, str], message: str = "", now_wall: float | None = None) -> float | None:
    """Seconds, from the most exact source there is: `retry-after-ms`, `retry-after`, the message's own words.

    Header names are lower case. ``now_wall``: Unix seconds, where the answer has no `Date`.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    asked = headers.get("retry-after")
    seconds = _number(asked)
    if seconds is None and asked:
        seconds = _until(asked, headers.get("date"), now_wall)
    return _said(message) if seconds is None else seconds


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _until(date: str, answered: str | None, now_wall: float | None) -> float | None:
    """An HTTP date, measured by the server's own clock where it tells it.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    then, now = _unix(date), _unix(answered)
    now = now_wall if now is None else now
    return None if then is None or now is None else max(0.0, then - now)


def _unix(date: str | None) -> float | None:
    try:
        parts = parsedate_tz(date or "")
        return None if parts is None else mktime_tz(parts)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def _said(message: str) -> float | None:
    """From words such as `Please try again in 6m0s`."""
    asked = _ASKED.search(message)
    if asked is None:
        return None
    return sum(float(number) * _seconds_in(unit.lower()) for number, unit in _PARTS.findall(asked.group()))


def _seconds_in(unit: str) -> float:
    return _UNIT_S[unit if unit == "ms" else unit[0]]
