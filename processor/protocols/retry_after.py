"""How long an error answer asks to wait."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from processor.core.durations import DURATION_IN_WORDS, duration_in_words_s, http_date_s

_REQUESTED_WAIT = re.compile(rf"\b(?:try again|retry) (?:in|after) ({DURATION_IN_WORDS})", re.IGNORECASE)


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
    then, now = http_date_s(date), http_date_s(answered)
    now = now_wall if now is None else now
    return None if then is None or now is None else max(0.0, then - now)


def _said(message: str) -> float | None:
    """From words such as `Please try again in 6m0s`."""
    requested = _REQUESTED_WAIT.search(message)
    return None if requested is None else duration_in_words_s(requested.group(1))
