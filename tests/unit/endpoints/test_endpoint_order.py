"""The endpoint that is used least is found as by looking at all of them."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from processor.endpoints.endpoint import Endpoint
from processor.endpoints.endpoint_order import LeastUsed, use_of


class Used:
    """What counts of an endpoint."""

    def __init__(self, weight: float) -> None:
        self.weight, self.in_flight, self.granted = weight, 0, 0


@given(
    weights=st.lists(st.sampled_from((0.5, 1.0, 2.0)), min_size=1, max_size=5),
    steps=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=120),
)
def test_first_is_the_one_that_a_search_finds(weights: list[float], steps: list[tuple[int, bool]]) -> None:
    endpoints = cast(list[Endpoint], [Used(weight) for weight in weights])
    least_used, every = LeastUsed(endpoints), set(endpoints)
    for picked, is_release in steps:
        endpoint = endpoints[picked % len(endpoints)] if is_release else least_used.first(every)
        if is_release and endpoint.in_flight:
            endpoint.in_flight -= 1
        else:
            endpoint.in_flight += 1
            endpoint.granted += 1
        least_used.on_changed(endpoint)
        assert least_used.first(every) is min(endpoints, key=use_of)
        assert len(least_used._heap) <= 8 * len(endpoints)
