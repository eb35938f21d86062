"""The first requests of a limit group: one, and then twice as many at a time, until a response comes."""

from __future__ import annotations

from processor.health.first_requests import DOUBLING_S, FirstRequests

ALONE_S = 2.0


def in_flight_at(first: FirstRequests, now: float, *, most: int = 10_000) -> int:
    """The requests in flight if as many are sent as may be, and none ends."""
    in_flight = 0
    while in_flight < most and first.blocked_until(in_flight, now) is None:
        first.start(now)
        in_flight += 1
    return in_flight


def test_first_request_is_alone_for_the_timeout_and_then_the_number_doubles() -> None:
    first = FirstRequests(ALONE_S)
    assert in_flight_at(first, 10.0) == 1
    assert in_flight_at(first, 11.9) == 1
    assert first.blocked_until(1, 11.0) == 10.0 + ALONE_S
    steps = [in_flight_at(first, 10.0 + ALONE_S + step * DOUBLING_S + 1e-6) for step in range(5)]
    assert steps == [2, 4, 8, 16, 32]


def test_time_that_is_named_is_when_one_more_may_be_sent() -> None:
    first = FirstRequests(ALONE_S)
    first.start(10.0)
    for in_flight in range(1, 100):
        until = first.blocked_until(in_flight, 10.0)
        assert until is not None
        assert first.blocked_until(in_flight, until) is None
        assert first.blocked_until(in_flight, until - 1e-3) == until


def test_response_lets_any_number_follow() -> None:
    first = FirstRequests(ALONE_S)
    first.start(10.0)
    first.allow_all()
    first.start(11.0)
    assert first.blocked_until(5000, 11.0) is None


def test_nothing_waits_where_the_first_request_is_not_to_be_alone() -> None:
    first = FirstRequests(0.0)
    first.start(10.0)
    assert first.blocked_until(5000, 10.0) is None
