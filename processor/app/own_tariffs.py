"""Makes tariffs from the prices of the settings."""

from __future__ import annotations

from decimal import Decimal

from processor.config.price_settings import ModelPrices
from processor.cost.tariff import Rate, Rates, Tariff, TariffPeriod

_NOTHING = Rate(usd=Decimal(0))
FREE = Tariff(periods=(TariffPeriod(rates=Rates(input=_NOTHING, output=_NOTHING)),))
"""A model that the run serves itself costs nothing."""


def own_tariff(prices: ModelPrices) -> Tariff:
    """Return the tariff that the user has set."""
    above = prices.above

    def rate(name: str) -> Rate | None:
        usd = getattr(prices, name)
        if usd is None:
            return None
        higher = None if above is None else getattr(above, name)
        if above is None or above.tokens is None or higher is None:
            return Rate(usd=_decimal(usd))
        return Rate(usd=_decimal(usd), above=((above.tokens, _decimal(higher)),))

    input_rate, output_rate = rate("input"), rate("output")
    assert input_rate is not None and output_rate is not None, "the settings have been checked"
    return Tariff(
        periods=(
            TariffPeriod(
                rates=Rates(
                    input=input_rate,
                    output=output_rate,
                    cached_input=rate("cached_input"),
                    cache_write=rate("cache_write"),
                )
            ),
        ),
        max_output_tokens=prices.max_output_tokens,
    )


def _decimal(usd: float) -> Decimal:
    """As it was written: 0.2 is two tenths."""
    return Decimal(repr(usd))
