"""Where the jobs of one API path and model can go: the endpoints that answer them, and what these charge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from processor.core.models import Job
from processor.cost.tariff import Tariff
from processor.endpoints.endpoint import Endpoint, EndpointClosed

if TYPE_CHECKING:
    from processor.endpoints.job_queue import JobQueue


class OpenEndpoints:
    """Tells whether an endpoint is left that takes jobs of one path and model, without looking at all: what is closed
    for one of its jobs is so for all, and for good."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = list(reversed(endpoints))
        self.closed_reason: str | None = None
        """Why the last one was closed."""

    def has_any(self, job: Job) -> bool:
        """``job``: one of these."""
        while self._endpoints:
            reason = self._endpoints[-1].closed_reason(job)
            if reason is None:
                return True
            self.closed_reason = reason
            self._endpoints.pop()
        return False


@dataclass(slots=True, eq=False)
class PriceClass:
    """Endpoints that have the same tariff for a model; None: it is not known."""

    tariff: Tariff | None
    open: OpenEndpoints


@dataclass(slots=True, eq=False)
class EndpointPrices:
    """The tariffs of a model, each of them once: many endpoints have few."""

    classes: Sequence[PriceClass]
    class_of: Mapping[Endpoint, int]
    """The place of each endpoint's class among them."""


class Destinations:
    """Where the jobs of one API path and model can go that the same endpoints have given up."""

    def __init__(self, queue: JobQueue, endpoints: Sequence[Endpoint]) -> None:
        self.queue = queue
        self.endpoints = endpoints
        self.prices: EndpointPrices | None = None
        """In a run with a budget, once they have been looked up."""
        self._open = OpenEndpoints(endpoints)

    def raise_if_closed(self, job: Job) -> None:
        """Raises EndpointClosed if no endpoint takes the job any more."""
        if not self._open.has_any(job):
            raise EndpointClosed(self._open.closed_reason or f"no endpoint answers the model {job.model}")


def endpoint_prices(endpoints: Sequence[Endpoint], tariff_at: Callable[[Endpoint], Tariff | None]) -> EndpointPrices:
    """Return the prices at these endpoints."""
    of_tariff: dict[Tariff | None, list[Endpoint]] = {}
    for endpoint in endpoints:
        of_tariff.setdefault(tariff_at(endpoint), []).append(endpoint)
    return EndpointPrices(
        classes=[PriceClass(tariff, OpenEndpoints(those)) for tariff, those in of_tariff.items()],
        class_of={endpoint: at for at, those in enumerate(of_tariff.values()) for endpoint in those},
    )
