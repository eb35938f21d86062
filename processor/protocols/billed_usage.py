"""Reads what a reply is billed for: cached tokens, writes to the cache, and what has a price of its own."""

from __future__ import annotations

from processor.core.json_reading import fields_of
from processor.core.models import JSON, BilledUsage, Usage

OTHER_TIERS = frozenset({"flex", "priority", "fast", "scale", "batch"})
"""Service tiers whose rates are not the standard ones."""
MAX_COST_USD = 1e6
"""A larger cost of one request is not believed."""


def billed_usage(body: JSON, usage: Usage, *, served_by: str | None = None) -> BilledUsage:
    """Return what ``usage``, the tokens of the reply, consists of by the server's word.

    ``served_by``: the service tier whose rates are known; None: the standard one.
    """
    reported = fields_of(body.get("usage"))
    details = fields_of(reported.get("prompt_tokens_details")) or fields_of(reported.get("input_tokens_details"))
    cached = _first_count(
        (details, "cached_tokens"), (reported, "cache_read_input_tokens"), (reported, "prompt_cache_hit_tokens")
    )
    written = _first_count((details, "cache_write_tokens"), (reported, "cache_creation_input_tokens"))
    written_1h = _first_count((fields_of(reported.get("cache_creation")), "ephemeral_1h_input_tokens"))
    cached = min(cached, usage.prompt_tokens)
    written = min(written, usage.prompt_tokens - cached)
    return BilledUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(written_1h, written),
        has_other_charges=_has_other_charges(body, reported, details, served_by),
    )


def reported_cost_usd(body: JSON) -> float | None:
    """Return the cost that the server reports for the reply, in US dollars; None where it reports none."""
    cost = fields_of(body.get("usage")).get("cost")
    if not isinstance(cost, int | float) or isinstance(cost, bool):
        return None
    return float(cost) if 0 <= cost <= MAX_COST_USD else None


def _has_other_charges(body: JSON, reported: JSON, details: JSON, served_by: str | None) -> bool:
    """Whether something is charged that is no text token at the standard rate: audio, searches, another tier."""
    tier = body.get("service_tier") or reported.get("service_tier")
    output = fields_of(reported.get("completion_tokens_details")) or fields_of(reported.get("output_tokens_details"))
    tools = fields_of(reported.get("server_tool_use"))
    return (
        (isinstance(tier, str) and tier in OTHER_TIERS and tier != served_by)
        or _first_count((details, "audio_tokens")) > 0
        or _first_count((output, "audio_tokens")) > 0
        or any(type(count) is int and count > 0 for count in tools.values())
    )


def _first_count(*places: tuple[JSON, str]) -> int:
    for table, name in places:
        value = table.get(name)
        if type(value) is int and value > 0:
            return value
    return 0
