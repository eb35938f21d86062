"""Reads how long an error response asks to wait. What is no plausible duration counts as not given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from processor.core.durations import (
    DURATION_IN_WORDS,
    duration_in_words_s,
    duration_s,
    http_date_s,
    plausible_wait_s,
    rfc3339_s,
    seconds_until_reset,
)
from processor.core.lazy_pattern import LazyPattern
from processor.core.models import JSON
from processor.protocols.error_body import ErrorBody, objects_in

_WAIT_IN_MESSAGE = LazyPattern(
    rf"\b(?:(?:try again|retry|retrying|reset|resets|replenished) (?:in|after)|please wait(?: for)?)"
    rf" ({DURATION_IN_WORDS})",
    re.IGNORECASE,
)
_DAYS_AND_CLOCK = LazyPattern(r"(?i)\b(?:in|after) (?:(\d{1,3})\.)?(\d\d):(\d\d):(\d\d)\b")
"""Azure: `Quota will be replenished in 2.12:30:20.`"""
_MOMENT_IN_MESSAGE = LazyPattern(
    r"(?i)\b(?:until|on|at|after) (\d{4}-\d\d-\d\d)(?:[ T](?:at )?(\d\d:\d\d(?::\d\d)?(?:\.\d{1,6})?) ?(?:utc|z)?)?"
)
"""Anthropic: `You will regain access on 2026-12-01 at 00:00 UTC.`"""
_SECONDS_FIELDS = ("retry_after", "retry_after_s", "retry_after_seconds", "retryAfter", "retryDelay", "retry-after")
_MILLISECONDS_FIELDS = ("retry_after_ms", "retryAfterMs")
_RESET_HEADERS = ("x-ratelimit-reset", "ratelimit-reset")


def retry_after(
    headers: Mapping[str, str], error: ErrorBody, now_wall: float | None = None, *, quota: bool = False
) -> float | None:
    """Seconds, from the most exact source: `retry-after-ms`, `retry-after`, the body's fields, its words, and for an
    exceeded ``quota`` the time at which it is reset.

    None where none of them has a plausible wait. Header names are lower case. ``now_wall``: Unix seconds, for a
    response without `Date`.
    """
    now = http_date_s(headers.get("date"))
    now = now_wall if now is None else now
    for wait_s in _waits(headers, error, now, quota=quota):
        if (plausible_s := plausible_wait_s(wait_s)) is not None:
            return plausible_s
    return None


def _waits(headers: Mapping[str, str], error: ErrorBody, now: float | None, *, quota: bool) -> Iterator[float | None]:
    yield _number(headers.get("retry-after-ms"), 1000)
    value = headers.get("retry-after")
    yield _number(value)
    if value:
        yield duration_s(value)
        if now is not None and (date := http_date_s(value)) is not None:
            # https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
            yield max(0.0, date - now)
    yield from _waits_in_body(error)
    if error.message:
        yield from _waits_in_message(error.message, now)
    if quota and now is not None:
        yield from _resets(headers, error.error, now)


def _waits_in_body(error: ErrorBody) -> Iterator[float | None]:
    """The fields of Google's RetryInfo, and those of the same meaning elsewhere."""
    places = [*objects_in(error.error, "details"), *objects_in(error.error, "metadata")]
    places += [place for place in (error.error, error.body) if place is not None]
    for place in places:
        for name in _MILLISECONDS_FIELDS:
            yield _number(place.get(name), 1000)
        for name in _SECONDS_FIELDS:
            yield _seconds(place.get(name))


def _waits_in_message(message: str, now: float | None) -> Iterator[float | None]:
    """Durations in words such as `Please try again in 6m0s`, and moments such as `on 2026-12-01 at 00:00 UTC`."""
    if found := _WAIT_IN_MESSAGE.search(message):
        yield duration_in_words_s(found.group(1))
    if found := _DAYS_AND_CLOCK.search(message):
        days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
        yield timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
    if now is not None and (found := _MOMENT_IN_MESSAGE.search(message)):
        moment = rfc3339_s(f"{found.group(1)}T{found.group(2) or '00:00'}")
        yield None if moment is None or moment < now else moment - now


def _resets(headers: Mapping[str, str], error: JSON | None, now: float) -> Iterator[float | None]:
    """The reset times in the headers, also in those that OpenRouter repeats in its body."""
    values: list[Any] = [headers.get(name) for name in _RESET_HEADERS]
    for metadata in objects_in(error, "metadata"):
        for inner in objects_in(metadata, "headers"):
            names = {name.lower(): value for name, value in inner.items()}
            values += [names.get(name) for name in _RESET_HEADERS]
    for value in values:
        if (number := _seconds(value)) is not None:
            yield seconds_until_reset(number, now)
        elif isinstance(value, str) and (moment := rfc3339_s(value)) is not None:
            yield max(0.0, moment - now)


def _seconds(value: Any) -> float | None:
    """A number, a duration such as `12s`, or `{"seconds": 12, "nanos": 0}`."""
    if isinstance(value, dict):
        value = value.get("seconds")
    number = _number(value)
    return duration_s(value) if number is None and isinstance(value, str) else number


def _number(value: Any, divisor: float = 1) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value) / divisor
    except (ValueError, OverflowError):
        return None
    return 0.0 if number < 0 else number
