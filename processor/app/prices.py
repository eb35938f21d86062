"""Makes the price list of a run from its settings."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from urllib.parse import urlsplit

from processor.app.plan import Plan
from processor.config.batch_presets import BatchPreset
from processor.config.endpoint_resolution import EndpointAccess
from processor.config.price_settings import ModelPrices
from processor.config.settings import Settings
from processor.core.events import Listener
from processor.core.urls import is_loopback
from processor.cost.price_list import PriceList, look_up_published
from processor.cost.tariff import Rate, Rates, Tariff, TariffPeriod

_NOTHING = Rate(usd=Decimal(0))
FREE = Tariff(periods=(TariffPeriod(rates=Rates(input=_NOTHING, output=_NOTHING)),))


def price_list(plan: Plan, accesses: Sequence[EndpointAccess], emit: Listener, *, own_transport: bool) -> PriceList:
    """Published prices are looked up where requests go to another machine, by the program's own transport. A model that
    the run serves itself costs nothing."""
    own = {model: own_tariff(prices) for model, prices in plan.settings.prices.items()}
    if plan.settings.local is not None:
        return PriceList(own, default=FREE)
    is_remote = any(not is_loopback(urlsplit(access.target.base_url).hostname or "") for access in accesses)
    has_budget = plan.settings.max_cost_usd is not None  # then unknown prices are reported before the first request
    return PriceList(own, look_up_published if is_remote and not own_transport else None, None if has_budget else emit)


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


def price_factor(settings: Settings, preset: BatchPreset | None) -> float | None:
    """What a request costs in a batch, as a share of its price otherwise; None where that is not known."""
    if settings.batch.price_factor is not None:
        return settings.batch.price_factor
    return None if preset is None else preset.price_factor
