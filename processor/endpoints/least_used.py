"""Finds the endpoint that is used least, by its weight, without looking at all of them. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from processor.endpoints.endpoint import Endpoint

_STALE_ENTRIES_EACH = 8
"""The heap is rebuilt when it holds more entries than this for each endpoint."""

Use = tuple[float, float]


def use_of(endpoint: Endpoint) -> Use:
    """How much an endpoint is used, by its weight: now, and in the whole run."""
    return (endpoint.in_flight + 1) / endpoint.weight, endpoint.granted / endpoint.weight


class LeastUsed:
    """A heap of endpoints by their use. Each change adds an entry; one that no longer holds is dropped at the top."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._place = {endpoint: at for at, endpoint in enumerate(endpoints)}
        self._heap: list[tuple[Use, int, Endpoint]] = []
        self._fill()

    def on_changed(self, endpoint: Endpoint) -> None:
        """To be called whenever the use of an endpoint has changed."""
        if len(self._heap) >= _STALE_ENTRIES_EACH * len(self._place):
            self._fill()
        else:
            heapq.heappush(self._heap, (use_of(endpoint), self._place[endpoint], endpoint))

    def first(self) -> Endpoint:
        """The endpoint that is used least; of equal ones the first."""
        while True:
            use, _, endpoint = self._heap[0]
            if use == use_of(endpoint):
                return endpoint
            heapq.heappop(self._heap)

    def _fill(self) -> None:
        self._heap = [(use_of(endpoint), at, endpoint) for endpoint, at in self._place.items()]
        heapq.heapify(self._heap)
