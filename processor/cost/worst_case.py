"""The most that one request can cost. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processor.core.money import pico_usd_at_most
from processor.core.token_bounds import TokenBounds

if TYPE_CHECKING:
    from processor.cost.tariff import Tariff


def worst_case_pico(tariff: Tariff, bounds: TokenBounds) -> int | None:
    """Return the worst case in 1e-12 USD; None where nothing bounds it."""
    each = tariff.max_output_tokens if bounds.output_tokens is None else bounds.output_tokens
    if bounds.unknown is not None or each is None:
        return None
    return pico_usd_at_most(tariff.worst_cost_usd(bounds.prompt_tokens, each * bounds.choices))


def why_unknown(bounds: TokenBounds) -> str:
    """Say why a request whose price is known has no worst case, and what to do."""
    why = bounds.unknown or (
        "it sets no limit of output tokens, and that of the model is not known: give the job max_tokens, or the model "
        "max_output_tokens under its prices"
    )
    return f"not sent, since nothing bounds its cost: {why}"
