"""How providers write their limits into response headers. Pure; the reader of these stands in `processor.ratelimit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from processor.simulator.counters import SECOND_NS, ServerCounter

Dialect = Literal["openai", "anthropic", "azure", "none"]
Resource = Literal["requests", "tokens"]

_MILLISECOND_NS = 1_000_000


def rate_headers(
    meters: Mapping[Resource, ServerCounter], now: int, dialect: Dialect, epoch_s: float
) -> dict[str, str]:
    """`epoch_s` is the wall clock's time (Unix) at `now` = 0, for dialects that name an instant."""
    if dialect == "none":
        return {}
    headers: dict[str, str] = {}
    for resource, meter in meters.items():
        # What has come back after rounding up is all there: a header never promises too early.
        reset = _RESETS[dialect](meter.full_ns(now), now, epoch_s)
        for what, value in (("limit", meter.limit), ("remaining", meter.remaining(now)), ("reset", reset)):
            headers[_name(dialect, resource, what)] = str(value)
    return headers


def _name(dialect: Dialect, resource: Resource, what: str) -> str:
    return f"anthropic-ratelimit-{resource}-{what}" if dialect == "anthropic" else f"x-ratelimit-{what}-{resource}"


def go_duration(duration_ns: int) -> str:
    """As Go prints a time.Duration, in whole milliseconds: `20ms`, `1s`, `6m0s`, `4m12.172s`, `23h18m29.1s`."""
    milliseconds = -(-duration_ns // _MILLISECOND_NS)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _whole_seconds(duration_ns: int, now: int, epoch_s: float) -> str:
    return str(-(-duration_ns // SECOND_NS))


def _instant(duration_ns: int, now: int, epoch_s: float) -> str:
    """RFC 3339, in whole seconds, as Anthropic writes it."""
    seconds = -(-(now + duration_ns + round(epoch_s * SECOND_NS)) // SECOND_NS)
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


_RESETS: dict[Dialect, Callable[[int, int, float], str]] = {
    "openai": lambda duration_ns, now, epoch_s: go_duration(duration_ns),
    "azure": _whole_seconds,
    "anthropic": _instant,
}
