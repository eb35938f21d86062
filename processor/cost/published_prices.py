"""The program of the child process that reads published prices.

Reads ``[[address, model], ...]`` from standard input and writes a list with the tariff of each, or null, to standard
output. The price library takes 95 MB and most of a second to load: the process of the run never imports it.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

RATE_NAMES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
}
PER_THOUSAND_REQUESTS = "requests_kcount"


def published_tariff(address: str, model: str) -> dict[str, Any] | None:
    """Return the tariff of a model at an address as JSON; None where no price is known.

    The address is always given: without one the library guesses the provider from the name of the model.
    """
    from genai_prices import Usage, calc_price

    try:
        found: Any = calc_price(Usage(input_tokens=1, output_tokens=1), model, provider_api_url=address)
    except (LookupError, ValueError):
        return None
    prices = found.model.prices
    periods = [_period(each) for each in prices] if isinstance(prices, list) else [{"rates": _rates(prices)}]
    if any(period["rates"] is None for period in periods):
        return None
    # A reply is part of the context.
    return {"periods": periods, "max_output_tokens": found.model.context_window}


def _period(conditional: Any) -> dict[str, Any]:
    period: dict[str, Any] = {"rates": _rates(conditional.prices)}
    condition = conditional.constraint
    if start_date := getattr(condition, "start_date", None):
        period["from_unix_s"] = int(datetime.combine(start_date, time(), UTC).timestamp())
    if start := getattr(condition, "start_time", None):
        period["daily_s"] = [_second_of_day(start), _second_of_day(condition.end_time)]
    return period


def _second_of_day(value: time) -> int:
    offset = value.utcoffset()
    seconds = value.hour * 3600 + value.minute * 60 + value.second
    return (seconds - int(offset.total_seconds() if offset else 0)) % 86_400


def _rates(price: Any) -> dict[str, Any] | None:
    """Return the rates as JSON; None where the model is not charged by the token."""
    values = {name: value for name, value in vars(price).items() if value is not None}
    rates: dict[str, Any] = {ours: _rate(values[theirs]) for theirs, ours in RATE_NAMES.items() if theirs in values}
    if "input" not in rates:
        return None
    rates.setdefault("output", {"usd": "0", "above": []})  # as for embeddings: nothing is generated
    if PER_THOUSAND_REQUESTS in values:
        rates["usd_per_request"] = str(Decimal(values[PER_THOUSAND_REQUESTS]) / 1000)
    return rates


def _rate(value: Any) -> dict[str, Any]:
    if isinstance(value, Decimal):
        return {"usd": str(value), "above": []}
    return {"usd": str(value.base), "above": [[tier.start, str(tier.price)] for tier in value.tiers]}


def main() -> None:
    asked = json.load(sys.stdin)
    json.dump([published_tariff(address, model) for address, model in asked], sys.stdout)
