"""Rate-limit headers of all dialects, as numbers. Pure, and never raises: what makes no sense is not there.

    x-ratelimit-{limit,remaining,reset}-{requests,tokens,project-tokens}                            OpenAI, Azure, ...
    anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}        Anthropic

Resets are Go durations (``6m0s``, ``20ms``), bare seconds, or instants (RFC 3339), which are taken relative to the
response's own ``date``, so that no clock of ours is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Literal, NamedTuple

Resource = Literal["requests", "tokens", "project_tokens", "input_tokens", "output_tokens"]


class Reported(NamedTuple):
    """What a response says about one limit."""

    limit: float | None
    """Per minute. Azure's 0 and -1 mean nothing."""
    remaining: float | None
    """After this request. 0 means 0."""
    reset_s: float | None = None
    """Until all of it is back."""


_OPENAI: tuple[Resource, ...] = ("requests", "tokens", "project_tokens")
_ANTHROPIC: tuple[Resource, ...] = ("requests", "tokens", "input_tokens", "output_tokens")
_PARTS = ("limit", "remaining", "reset")


def _names() -> Iterator[tuple[Resource, str, str, str]]:
    for resource in _OPENAI:
        limit, remaining, reset = (f"x-ratelimit-{part}-{resource.replace('_', '-')}" for part in _PARTS)
        yield resource, limit, remaining, reset
    for resource in _ANTHROPIC:
        limit, remaining, reset = (f"anthropic-ratelimit-{resource.replace('_', '-')}-{part}" for part in _PARTS)
        yield resource, limit, remaining, reset


_NAMES = tuple(_names())
_MOST_DIGITS = 15
_GO_DURATION = re.compile(r"(?=.)(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)(ms|s))?")
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?")


def parse_rate_limit_headers(headers: Mapping[str, str]) -> dict[Resource, Reported]:
    """Names must be lower case."""
    found: dict[Resource, Reported] = {}
    for resource, limit, remaining, reset in _NAMES:
        if remaining in headers or limit in headers:
            most, left = count(headers.get(limit)), count(headers.get(remaining))
            if most or left is not None:
                found[resource] = Reported(most or None, left, duration_s(headers.get(reset), headers.get("date")))
    return found


def count(value: str | None) -> float | None:
    """A whole number of zero or more; some servers write them with a fraction of zeros."""
    if value is None:
        return None
    digits = value.strip().removesuffix(".0")
    return float(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS else None


def duration_s(value: str | None, date: str | None = None) -> float | None:
    """``date``: the response's, as HTTP writes it."""
    if not value:
        return None
    duration = _length_s(value)
    return _until_s(value, date) if duration is None and date else duration


@lru_cache(maxsize=1024)
def _length_s(value: str) -> float | None:
    """Of bare seconds, or a Go duration. The same few come again and again."""
    if _SECONDS.fullmatch(value):
        return float(value)
    go = _GO_DURATION.fullmatch(value)
    if go is None:
        return None
    hours, minutes, rest, unit = go.groups()
    seconds = float(rest or 0) / (1000 if unit == "ms" else 1)
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + seconds


def _until_s(instant: str, date: str) -> float | None:
    try:
        # Python 3.11 reads the Z; where none is given, it is meant.
        until, since = datetime.fromisoformat(instant), parsedate_to_datetime(date)
        return max(0.0, (_utc(until) - _utc(since)).total_seconds())
    except (ValueError, OverflowError):
        return None


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
