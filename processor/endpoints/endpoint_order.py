"""Which of the endpoints that may have room is asked first: found without looking at all of them. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from processor.endpoints.endpoint import Endpoint

_STALE_ENTRIES_EACH = 8
"""The heap is rebuilt when it holds more entries than this for each endpoint."""

Use = tuple[float, float]


class EndpointOrder(Protocol):
    """Prefers one endpoint to another."""

    def first(self, endpoints: AbstractSet[Endpoint]) -> Endpoint:
        """Return the one of these endpoints, at least one, that is asked first."""

    def on_changed(self, endpoint: Endpoint) -> None:
        """To be called whenever the use of an endpoint has changed."""


class InOrder:
    """An endpoint is used only while those before it have no room."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._first = endpoints[0]
        self._place = {endpoint: at for at, endpoint in enumerate(endpoints)}

    def first(self, endpoints: AbstractSet[Endpoint]) -> Endpoint:
        return self._first if self._first in endpoints else min(endpoints, key=self._place.__getitem__)

    def is_before(self, endpoint: Endpoint, other: Endpoint) -> bool:
        return self._place[endpoint] < self._place[other]

    def on_changed(self, endpoint: Endpoint) -> None:
        """The order does not depend on the use."""


def use_of(endpoint: Endpoint) -> Use:
    """How much an endpoint is used, by its weight: now, and in the whole run."""
    return (endpoint.in_flight + 1) / endpoint.weight, endpoint.granted / endpoint.weight


class LeastUsed:
    """The endpoint that is used least, by its weight; of equal ones the first.

    It keeps a heap of all endpoints. Each change adds an entry; one that no longer holds is dropped at the top.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._place = {endpoint: at for at, endpoint in enumerate(endpoints)}
        self._heap: list[tuple[Use, int, Endpoint]] = []
        self._fill()

    def on_changed(self, endpoint: Endpoint) -> None:
        if len(self._heap) >= _STALE_ENTRIES_EACH * len(self._place):
            self._fill()
        else:
            heapq.heappush(self._heap, (*self._key(endpoint), endpoint))

    def first(self, endpoints: AbstractSet[Endpoint]) -> Endpoint:
        """Few have room where the one that is used least of all has none: only then are they compared."""
        least_used = self._least_used()
        return least_used if least_used in endpoints else min(endpoints, key=self._key)

    def _least_used(self) -> Endpoint:
        while True:
            use, _, endpoint = self._heap[0]
            if use == use_of(endpoint):
                return endpoint
            heapq.heappop(self._heap)

    def _key(self, endpoint: Endpoint) -> tuple[Use, int]:
        return use_of(endpoint), self._place[endpoint]

    def _fill(self) -> None:
        self._heap = [(*self._key(endpoint), endpoint) for endpoint in self._place]
        heapq.heapify(self._heap)
