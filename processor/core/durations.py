"""Durations and dates: as servers write them, and as rows hold them. No function raises: the result is None for what
cannot be parsed."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from functools import lru_cache

_UNIT_S = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
_SECONDS = re.compile(_NUMBER)
_GO_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|s|m|h))+")

_UNIT = r"(?:ms|milliseconds?|minutes?|mins?|m|seconds?|secs?|s|hours?|hrs?|h|days?|d)(?![a-z])"
DURATION_IN_WORDS = rf"(?:{_NUMBER} ?{_UNIT},? ?)+"
"""A pattern for durations in sentences: ``6m0s``, ``20ms``, ``1 minute 30 seconds``. Ignore case."""

_PART = re.compile(rf"({_NUMBER}) ?(ms|milli|m|s|h|d)", re.IGNORECASE)


_MAX_WAIT_S = 366 * 86400.0
"""A longer wait is not meant as one. An instant in seconds, milliseconds or microseconds is far beyond it."""


@lru_cache(maxsize=1024)
def duration_s(text: str) -> float | None:
    """Bare seconds (``1.5``) or a Go duration (``6m0s``, ``20ms``). Cached: servers repeat the same few.

    https://pkg.go.dev/time#ParseDuration
    """
    if _SECONDS.fullmatch(text):
        return float(text)
    return duration_in_words_s(text) if _GO_DURATION.fullmatch(text) else None


def duration_in_words_s(text: str) -> float:
    """The sum of all parts of a text that matches DURATION_IN_WORDS."""
    return sum(float(number) * _UNIT_S[unit.lower()] for number, unit in _PART.findall(text))


def plausible_wait_s(seconds: float | None) -> float | None:
    """The seconds, where they can be a duration to wait for: no instant, no more than a year, no NaN; else None."""
    if seconds is None or not math.isfinite(seconds) or not 0 <= seconds <= _MAX_WAIT_S:
        return None
    return seconds


def seconds_until_reset(value: float, now_unix_s: float) -> float | None:
    """The wait in a header that holds either seconds or a Unix time in seconds, milliseconds or microseconds."""
    if not math.isfinite(value) or value <= _MAX_WAIT_S:
        return plausible_wait_s(value)
    for unit in (1.0, 1e3, 1e6):
        if abs(value / unit - now_unix_s) <= _MAX_WAIT_S:
            return max(0.0, value / unit - now_unix_s)
    return None


def http_date_s(text: str | None) -> float | None:
    """Unix seconds of a ``Date`` or ``Retry-After`` header.

    https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats
    """
    from email.utils import parsedate_to_datetime  # here: it loads 25 modules, which the help does not need

    try:
        return _unix_s(parsedate_to_datetime(text or ""))
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def rfc3339_s(text: str) -> float | None:
    """Unix seconds of an instant such as ``2026-11-27T08:01:30Z``. UTC where no zone is given."""
    try:
        return _unix_s(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _unix_s(time: datetime) -> float:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def in_microseconds(seconds: float) -> float:
    """Round a duration to microseconds, without the detour of ``round`` over decimal digits."""
    return int(seconds * 1e6 + 0.5) / 1e6


@lru_cache(maxsize=256)
def iso_second(unix_s: int) -> str:
    """Format a second as ISO 8601 in UTC. Cached, because many requests start in the same second."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
