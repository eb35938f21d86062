"""The tariffs of models at the endpoints of a plan, looked up outside an event loop: for estimates and rehearsals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from processor.app.plan import Plan
from processor.app.prices import price_list
from processor.config.endpoint_resolution import EndpointAccess
from processor.cost.tariff import Tariff


class KnownTariffs:
    """Looks up each model once. ``prices`` then answers without a further look-up."""

    def __init__(self, plan: Plan, accesses: Sequence[EndpointAccess]) -> None:
        self._accesses = accesses
        self.prices = price_list(plan, accesses, lambda event: None, own_transport=False)
        self._tariffs: dict[str, tuple[Tariff, ...]] = {}
        self._models: set[str] = set()

    def load(self, models: Iterable[str]) -> None:
        """Look up the models that are new, all at once. Takes about a second where a price is published."""
        new = set(models) - self._models
        if new:
            self._models |= new
            asyncio.run(self._load(sorted(new)))

    def of(self, model: str) -> Sequence[Tariff]:
        """Return the tariffs of a loaded model at the endpoints that answer it; none where no price is known."""
        found = self._tariffs.get(model)
        if found is None:
            known = (self.prices.known(*place) for place in self._places(model))
            found = self._tariffs[model] = tuple(tariff for tariff in known if tariff is not None)
        return found

    async def _load(self, models: Sequence[str]) -> None:
        await asyncio.gather(*(self.prices.tariff(*place) for model in models for place in self._places(model)))

    def _places(self, model: str) -> list[tuple[str, str]]:
        """The addresses that answer a model, and its name there."""
        places = []
        for access in self._accesses:
            sent = model if access.settings is None else access.settings.model_sent(model)
            if sent is not None:
                places.append((access.target.base_url, sent))
        return places
