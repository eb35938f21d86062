"""Makes the price list of a run from its settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from processor.app.plan import Plan
from processor.config.batch_presets import BatchPreset
from processor.config.endpoint_resolution import EndpointAccess
from processor.config.settings import Settings
from processor.core.events import Listener
from processor.core.urls import is_loopback
from processor.cost.price_list import PriceList, look_up_published

if TYPE_CHECKING:
    from processor.cost.tariff import Tariff


def price_list(plan: Plan, accesses: Sequence[EndpointAccess], emit: Listener, *, own_transport: bool) -> PriceList:
    """Published prices are looked up where requests go to another machine, by the program's own transport. A model that
    the run serves itself costs nothing."""
    own: dict[str, Tariff] = {}
    if plan.settings.prices or plan.settings.local is not None:
        from processor.app.own_tariffs import FREE, own_tariff

        own = {model: own_tariff(prices) for model, prices in plan.settings.prices.items()}
        if plan.settings.local is not None:
            return PriceList(own, default=FREE)
    is_remote = any(not is_loopback(urlsplit(access.target.base_url).hostname or "") for access in accesses)
    has_budget = plan.settings.max_cost_usd is not None  # then unknown prices are reported before the first request
    return PriceList(own, look_up_published if is_remote and not own_transport else None, None if has_budget else emit)


def price_factor(settings: Settings, preset: BatchPreset | None) -> float | None:
    """What a request costs in a batch, as a share of its price otherwise; None where that is not known."""
    if settings.batch.price_factor is not None:
        return settings.batch.price_factor
    return None if preset is None else preset.price_factor
