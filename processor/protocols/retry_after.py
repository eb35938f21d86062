"""Reads how long an error response asks to wait."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from processor.core.durations import DURATION_IN_WORDS, duration_in_words_s, http_date_s

_WAIT_IN_MESSAGE = re.compile(rf"\b(?:try again|retry) (?:in|after) ({DURATION_IN_WORDS})", re.IGNORECASE)


def retry_after(headers: Mapping[str, str], message: str = "", now_wall: float | None = None) -> float | None:
    """Seconds, from the most exact source: `retry-after-ms`, then `retry-after`, then the words of the message.

    None where none of them has a wait. Header names are lower case. ``now_wall``: Unix seconds, for a response
    without `Date`.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is None and value:
        seconds = _seconds_until(value, headers.get("date"), now_wall)
    return _wait_in(message) if seconds is None else seconds


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _seconds_until(date: str, response_date: str | None, now_wall: float | None) -> float | None:
    """From now to an HTTP date, by the server's own clock where it sends its time.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    then, now = http_date_s(date), http_date_s(response_date)
    now = now_wall if now is None else now
    return None if then is None or now is None else max(0.0, then - now)


def _wait_in(message: str) -> float | None:
    """The duration in words such as `Please try again in 6m0s`."""
    found = _WAIT_IN_MESSAGE.search(message)
    return duration_in_words_s(found.group(1)) if found else None
