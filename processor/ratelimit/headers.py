"""Parses the rate-limit headers of all dialects. Never raises: a value that makes no sense counts as absent.

    x-ratelimit-{limit,remaining,reset}-{requests,tokens,project-tokens}                            OpenAI, Azure, ...
    anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}        Anthropic
    x-ratelimit-{limit,remaining,reset}-{requests,tokens}-{minute,hour,day}                         Cerebras

Only limits of a minute are returned: one of a day would be read as far more, or less, than the server grants. When it
is used up, the words of the refusal say so.

A reset is a Go duration (``6m0s``, ``20ms``), bare seconds, or an instant (RFC 3339). An instant is taken relative to
the response's own ``date``, so that the clock of this machine does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from processor.core.durations import duration_s, http_date_s, rfc3339_s
from processor.ratelimit.settings import HeaderDialect
from processor.ratelimit.token_cost import DEFAULT_OUTPUT_TOKENS

Resource = Literal["requests", "tokens", "project_tokens", "input_tokens", "output_tokens"]


class Reported(NamedTuple):
    """What a response reports about one limit."""

    limit: float | None
    """Per minute. None also for Azure's 0 and -1, which mean nothing."""
    remaining: float | None
    """After this request. 0 means 0."""
    reset_s: float | None = None
    """Until all of it is available again."""


_OPENAI: tuple[Resource, ...] = ("requests", "tokens", "project_tokens")
_ANTHROPIC: tuple[Resource, ...] = ("requests", "tokens", "input_tokens", "output_tokens")
_PARTS = ("limit", "remaining", "reset")


HeaderNames = tuple[tuple[Resource, str, str, str], ...]
"""For each resource the names of the headers that tell its limit, what remains of it, and the reset."""


def _openai_names(resources: Iterable[Resource], period: str = "") -> Iterator[tuple[Resource, str, str, str]]:
    for resource in resources:
        limit, remaining, reset = (f"x-ratelimit-{part}-{resource.replace('_', '-')}{period}" for part in _PARTS)
        yield resource, limit, remaining, reset


def _anthropic_names() -> Iterator[tuple[Resource, str, str, str]]:
    for resource in _ANTHROPIC:
        limit, remaining, reset = (f"anthropic-ratelimit-{resource.replace('_', '-')}-{part}" for part in _PARTS)
        yield resource, limit, remaining, reset


HEADER_NAMES: Mapping[HeaderDialect, HeaderNames] = {
    "minute": (*_openai_names(_OPENAI), *_anthropic_names()),
    "requests-per-day": tuple(_openai_names(("tokens",))),
    "named-periods": tuple(_openai_names(("requests", "tokens"), "-minute")),
}
_MAX_DIGITS = 15


def parse_rate_limit_headers(
    headers: Mapping[str, str], names: HeaderNames = HEADER_NAMES["minute"]
) -> dict[Resource, Reported]:
    """Header names must be lower case."""
    reported: dict[Resource, Reported] = {}
    date = headers.get("date")
    for resource, limit_name, remaining_name, reset_name in _present(names, tuple(headers)):
        limit, remaining = _parse_limit(headers.get(limit_name)), parse_count(headers.get(remaining_name))
        if resource != "requests" and limit is not None and limit < DEFAULT_OUTPUT_TOKENS / 4:
            continue  # less than one request and its reply need: the replies contradict it
        if limit or remaining is not None:
            reported[resource] = Reported(limit or None, remaining, parse_reset_s(headers.get(reset_name), date))
    return reported


@lru_cache(maxsize=256)
def _present(names: HeaderNames, header_names: tuple[str, ...]) -> HeaderNames:
    """Those of the names that a response has. Cached, because a server sends the same headers with each response."""
    return tuple(one for one in names if one[1] in header_names or one[2] in header_names)


def parse_count(value: str | None) -> float | None:
    """A whole number of zero or more. Some servers write it with ``.0``."""
    if value is None:
        return None
    if value.isdigit() and value.isascii() and len(value) <= _MAX_DIGITS:  # as nearly all are
        return float(value)
    digits = value.strip().removesuffix(".0")
    return float(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS else None


_parse_limit = lru_cache(maxsize=64)(parse_count)
"""Cached, because a server names the same few limits with each response."""


def parse_reset_s(value: str | None, date: str | None = None) -> float | None:
    """``date``: the value of the response's ``date`` header."""
    if not value:
        return None
    seconds = duration_s(value)
    if seconds is not None or not date:
        return seconds
    reset_at, responded_at = rfc3339_s(value), http_date_s(date)
    return None if reset_at is None or responded_at is None else max(0.0, reset_at - responded_at)
