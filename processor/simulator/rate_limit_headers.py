"""Writes rate-limit headers in the dialects of several providers. Pure. `processor.ratelimit.headers` reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Literal

from processor.simulator.counters import SECOND_NS, ServerCounter

Dialect = Literal["openai", "anthropic", "azure", "none"]
Resource = Literal["requests", "tokens", "input_tokens", "output_tokens"]

_ONLY_ANTHROPIC: frozenset[Resource] = frozenset({"input_tokens", "output_tokens"})
"""Limits of which no other dialect has headers."""

_MILLISECOND_NS = 1_000_000


def rate_headers(
    counters: Mapping[Resource, ServerCounter], now_ns: int, dialect: Dialect, epoch_s: float
) -> dict[str, str]:
    """The headers of a response that starts at `now_ns`.

    `epoch_s` is the Unix time at `now_ns` = 0, for dialects that state the reset as a date.
    """
    if dialect == "none":
        return {}
    headers: dict[str, str] = {}
    for resource, counter in counters.items():
        if resource in _ONLY_ANTHROPIC and dialect != "anthropic":
            continue
        # Rounded up, so that a client that waits so long is never too early.
        reset = _RESETS[dialect](counter.ns_until_reset(now_ns), now_ns, epoch_s)
        for what, value in (("limit", counter.limit), ("remaining", counter.remaining(now_ns)), ("reset", reset)):
            headers[_name(dialect, resource, what)] = str(value)
    if headers and dialect == "anthropic":
        # Its resets are instants, which mean nothing without the time of the response.
        headers["date"] = format_datetime(_instant(now_ns, epoch_s), usegmt=True)
    return headers


def _name(dialect: Dialect, resource: Resource, what: str) -> str:
    if dialect == "anthropic":
        return f"anthropic-ratelimit-{resource.replace('_', '-')}-{what}"
    return f"x-ratelimit-{what}-{resource}"


def go_duration(duration_ns: int) -> str:
    """A duration in the format of Go's time.Duration, in whole milliseconds: `20ms`, `6m0s`, `4m12.172s`."""
    milliseconds = -(-duration_ns // _MILLISECOND_NS)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _whole_seconds(duration_ns: int, now_ns: int, epoch_s: float) -> str:
    return str(-(-duration_ns // SECOND_NS))


def _rfc3339(duration_ns: int, now_ns: int, epoch_s: float) -> str:
    """RFC 3339 in whole seconds, the format of Anthropic."""
    return _instant(now_ns + duration_ns + SECOND_NS - 1, epoch_s).strftime("%Y-%m-%dT%H:%M:%SZ")


def _instant(at_ns: int, epoch_s: float) -> datetime:
    """In whole seconds, rounded down."""
    seconds = (at_ns + round(epoch_s * SECOND_NS)) // SECOND_NS
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


_RESETS: dict[Dialect, Callable[[int, int, float], str]] = {
    "openai": lambda duration_ns, now_ns, epoch_s: go_duration(duration_ns),
    "azure": _whole_seconds,
    "anthropic": _rfc3339,
}
