"""Admits a request at an endpoint only where the budget has room for its worst case, at that endpoint's price."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from processor.core.models import Job, RequestSize
from processor.core.text import place_of
from processor.cost.budget import Budget, Fit
from processor.cost.price_list import PriceList
from processor.cost.worst_case import why_unknown, worst_case_pico
from processor.endpoints.endpoint import Endpoint

if TYPE_CHECKING:
    from processor.cost.tariff import Tariff
    from processor.endpoints.destinations import EndpointPrices


class BudgetExhausted(Exception):
    """A request does not fit into the budget, whatever those in flight cost: nothing more is sent in this run."""


class UnknownCost(Exception):
    """No endpoint has a worst case for the request, which is not sent."""

    code = "unknown_cost"


class BudgetGate:
    """The budget at the endpoints of a run."""

    def __init__(self, budget: Budget, prices: PriceList) -> None:
        self.budget = budget
        self._prices = prices
        self._priced: set[str] = set()
        """The models whose prices have been looked up."""
        self.is_closed = False
        """A request did not fit: later ones wait for the end of the run, also those that would fit, unless they
        continue a job that has had a reply."""

    async def load_prices(self, endpoints: Iterable[Endpoint], job: Job) -> None:
        """Wait until the prices of the job's model have been looked up at these endpoints: those of the run."""
        if job.model not in self._priced:
            for endpoint in endpoints:
                if endpoint.answers(job.model):
                    await self._prices.tariff(endpoint.target.base_url, endpoint.job_as_sent(job).model)
            self._priced.add(job.model)

    def tariff(self, endpoint: Endpoint, job: Job) -> Tariff | None:
        """Return the tariff of the job's model at an endpoint if it is known by now."""
        return self._prices.known(endpoint.target.base_url, endpoint.job_as_sent(job).model)

    def has_price(self, endpoint: Endpoint, job: Job) -> bool:
        """Whether the price of the job's model at an endpoint is known by now."""
        return self.tariff(endpoint, job) is not None

    def worst_pico(self, endpoint: Endpoint, job: Job, size: RequestSize) -> int | None:
        """Return the most that the request can cost at an endpoint; None where that is not known."""
        return _worst_pico(self.tariff(endpoint, job), size)

    def worst_by_class(self, prices: EndpointPrices, size: RequestSize) -> list[int | None]:
        """Return the most that a request can cost, for each class of prices."""
        return [_worst_pico(one.tariff, size) for one in prices.classes]

    def best_fit(self, prices: EndpointPrices, worst_pico: Sequence[int | None], job: Job, size: RequestSize) -> Fit:
        """Return FITS if the request fits at an endpoint that takes it, else WAITS if it may. ``worst_pico``: what it
        costs at most, for each class of prices. Raises BudgetExhausted and UnknownCost.
        """
        fits: set[Fit] = set()
        known: list[int] = []
        has_price = False
        for one, pico in zip(prices.classes, worst_pico, strict=True):
            if one.open.has_any(job):
                has_price |= one.tariff is not None
                if pico is not None:
                    known.append(pico)
                    fits.add(self.budget.fit(pico))
        if not fits:
            raise UnknownCost(_why_unknown(job, size, has_price=has_price))
        if fits == {Fit.EXCEEDS}:
            self.is_closed = True
            raise BudgetExhausted(self.budget.exhaust(min(known), place_of(job.line, job.source)))
        return Fit.FITS if Fit.FITS in fits else Fit.WAITS


def _worst_pico(tariff: Tariff | None, size: RequestSize) -> int | None:
    assert size.bounds is not None, "every request of a run with a budget has bounds"
    return None if tariff is None else worst_case_pico(tariff, size.bounds)


def _why_unknown(job: Job, size: RequestSize, *, has_price: bool) -> str:
    assert size.bounds is not None
    if has_price:
        return why_unknown(size.bounds)
    why = f"not sent, since no price is known for {job.model!r}"
    return f'{why}: set one under [prices."{job.model}"] in the settings file'
