"""Admits a request at an endpoint only where the budget has room for its worst case, at that endpoint's price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from processor.core.models import Job, RequestSize, place_of
from processor.cost.budget import Budget, BudgetReservation, Fit
from processor.cost.price_list import PriceList
from processor.cost.worst_case import why_unknown, worst_case_pico
from processor.endpoints.endpoint import Endpoint


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
        self.is_closed = False
        """A request did not fit: later ones wait for the end of the run, also those that would fit, unless they
        continue a job that has had a reply."""

    async def load_prices(self, endpoints: Iterable[Endpoint], job: Job) -> None:
        """Wait until the job's prices have been looked up at these endpoints."""
        for endpoint in endpoints:
            if endpoint.answers(job.model):
                await self._prices.tariff(endpoint.target.base_url, endpoint.job_as_sent(job).model)

    def fits(self, endpoints: Iterable[Endpoint], job: Job, size: RequestSize) -> Mapping[Endpoint, Fit]:
        """Return for each endpoint whether the request may be sent there. Raises BudgetExhausted and UnknownCost."""
        worst = {endpoint: self.worst_pico(endpoint, job, size) for endpoint in endpoints}
        fits = {endpoint: Fit.UNKNOWN if pico is None else self.budget.fit(pico) for endpoint, pico in worst.items()}
        found = set(fits.values())
        if found <= {Fit.UNKNOWN}:
            raise UnknownCost(self._why_unknown(worst, job, size))
        if found <= {Fit.UNKNOWN, Fit.EXCEEDS}:
            self.is_closed = True
            least_pico = min(pico for pico in worst.values() if pico is not None)
            raise BudgetExhausted(self.budget.exhaust(least_pico, place_of(job.line, job.source)))
        return fits

    def reserve(self, endpoint: Endpoint, job: Job, size: RequestSize) -> BudgetReservation:
        """Reserve the worst case of a request that fits at this endpoint."""
        worst_pico = self.worst_pico(endpoint, job, size)
        assert worst_pico is not None, "a request without a worst case does not fit"
        return self.budget.reserve(worst_pico)

    def has_price(self, endpoint: Endpoint, job: Job) -> bool:
        """Whether the price of the job's model at an endpoint is known by now."""
        return self._prices.known(endpoint.target.base_url, endpoint.job_as_sent(job).model) is not None

    def worst_pico(self, endpoint: Endpoint, job: Job, size: RequestSize) -> int | None:
        """Return the most that the request can cost at an endpoint; None where that is not known."""
        assert size.bounds is not None, "every request of a run with a budget has bounds"
        tariff = self._prices.known(endpoint.target.base_url, endpoint.job_as_sent(job).model)
        return None if tariff is None else worst_case_pico(tariff, size.bounds)

    def _why_unknown(self, endpoints: Iterable[Endpoint], job: Job, size: RequestSize) -> str:
        assert size.bounds is not None
        for endpoint in endpoints:
            if self.has_price(endpoint, job):
                return why_unknown(size.bounds)
        return (
            f"not sent, since no price is known for {job.model!r}: set one under "
            f'[prices."{job.model}"] in the settings file'
        )
