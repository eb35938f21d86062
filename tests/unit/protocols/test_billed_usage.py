"""What a reply is billed for, as the usage of each API tells it."""

from __future__ import annotations

from typing import Any

import pytest

from processor.core.models import BilledUsage, Usage
from processor.protocols.billed_usage import billed_usage, reported_cost_usd

USAGE = Usage(prompt_tokens=100, completion_tokens=10)


def billed(**fields: Any) -> BilledUsage:
    return BilledUsage(prompt_tokens=100, completion_tokens=10, **fields)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, billed()),
        ({"prompt_tokens_details": {"cached_tokens": 40}}, billed(cached_tokens=40)),
        ({"input_tokens_details": {"cached_tokens": 40}}, billed(cached_tokens=40)),
        ({"prompt_cache_hit_tokens": 40, "prompt_cache_miss_tokens": 60}, billed(cached_tokens=40)),
        (
            {"cache_read_input_tokens": 40, "cache_creation_input_tokens": 30},
            billed(cached_tokens=40, cache_write_tokens=30),
        ),
        (
            {"cache_creation_input_tokens": 30, "cache_creation": {"ephemeral_1h_input_tokens": 20}},
            billed(cache_write_tokens=30, cache_write_1h_tokens=20),
        ),
        ({"prompt_tokens_details": {"cached_tokens": 4000}}, billed(cached_tokens=100)),
        ({"prompt_tokens_details": {"cached_tokens": "40"}}, billed()),
        ({"prompt_tokens_details": None, "cache_creation": 3}, billed()),
    ],
)
def test_cached_tokens_are_read_and_never_more_than_the_prompt(usage: Any, expected: BilledUsage) -> None:
    assert billed_usage({"usage": usage}, USAGE) == expected


@pytest.mark.parametrize(
    ("body", "has_other_charges"),
    [
        ({"usage": {"completion_tokens_details": {"audio_tokens": 5}}}, True),
        ({"usage": {"prompt_tokens_details": {"audio_tokens": 5}}}, True),
        ({"usage": {"prompt_tokens_details": {"audio_tokens": 0}}}, False),
        ({"usage": {"server_tool_use": {"web_search_requests": 1}}}, True),
        ({"usage": {"server_tool_use": {"web_search_requests": 0}}}, False),
        ({"usage": {}, "service_tier": "flex"}, True),
        ({"usage": {"service_tier": "priority"}}, True),
        ({"usage": {}, "service_tier": "default"}, False),
        ({}, False),
    ],
)
def test_what_has_a_price_of_its_own_is_noticed(body: Any, has_other_charges: bool) -> None:
    assert billed_usage(body, USAGE).has_other_charges is has_other_charges


@pytest.mark.parametrize(
    ("cost", "usd"),
    [(0.25, 0.25), (0, 0.0), (-1, None), (True, None), ("0.25", None), (None, None), (1e9, None), (float("nan"), None)],
)
def test_cost_that_the_server_reports_is_read_where_it_can_be_one(cost: Any, usd: float | None) -> None:
    assert reported_cost_usd({"usage": {"cost": cost}}) == usd
