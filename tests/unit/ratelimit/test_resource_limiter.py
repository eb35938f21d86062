"""The decision as a function: signals in, a time out. Hypothesis draws the requests, the network, and the nonsense."""

from __future__ import annotations

from math import inf, isnan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.ratelimit.headers import Reported
from processor.ratelimit.resource_limiter import ResourceLimiter
from processor.simulator.rate_limiter import LimiterKind
from tests.support.resource_limiter_simulation import MAX_WAIT_S, PlannedRequest, ResourceSimulation

HONEST: tuple[LimiterKind, ...] = ("sliding", "minute", "second")

EXAMPLES = 25

pauses = st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.01, 0.3, 5.0, 59.9, 61.0])
ways = st.floats(0, 0.1)


def asks(cost: st.SearchStrategy[int], most: int = 80) -> st.SearchStrategy[list[PlannedRequest]]:
    latencies = st.sampled_from([0.05, 0.3, 2.0, 15.0])
    return latencies.flatmap(
        lambda latency_s: st.lists(
            st.builds(PlannedRequest, cost, pauses, ways, st.floats(0.75 * latency_s, 1.25 * latency_s)), max_size=most
        )
    )


@pytest.mark.parametrize("kind", HONEST)
@settings(max_examples=EXAMPLES)
@given(drawn=asks(st.just(1)), limit=st.sampled_from([60, 90, 300]))
def test_an_honest_server_has_no_reason_to_refuse_a_request(
    kind: LimiterKind, drawn: list[PlannedRequest], limit: int
) -> None:
    assert ResourceSimulation(kind, limit).run(drawn).throttled == 0


@pytest.mark.parametrize("kind", HONEST)
@settings(max_examples=EXAMPLES)
@given(drawn=asks(st.integers(1, 400) | st.integers(1, 6000)))
def test_nor_one_of_any_size(kind: LimiterKind, drawn: list[PlannedRequest]) -> None:
    assert ResourceSimulation(kind, 6000, by_requests=False).run(drawn).throttled == 0


@pytest.mark.parametrize("kind", HONEST)
@settings(max_examples=EXAMPLES)
@given(drawn=asks(st.just(1)), limit=st.sampled_from([150, 300]))
def test_nor_does_one_that_says_nothing(kind: LimiterKind, drawn: list[PlannedRequest], limit: int) -> None:
    assert ResourceSimulation(kind, limit, dialect="none").run(drawn).throttled == 0


@pytest.mark.parametrize("pause_s", [0.5, 1.0, 5.0])
def test_what_trickles_through_proves_nothing_about_a_burst(pause_s: float) -> None:
    """Once, two requests five seconds apart counted as more than a second's bucket holds, and all that followed went
    at once."""
    trickle = [PlannedRequest(1, pause_s, 0.0, 0.0625)] * 4
    assert (
        ResourceSimulation("quantised", 60).run([*trickle, *[PlannedRequest(1, 0.0, 0.0, 0.0625)] * 30]).throttled <= 4
    )


@settings(max_examples=EXAMPLES)
@given(drawn=asks(st.just(1), most=200), limit=st.sampled_from([60, 300]))
def test_one_that_promises_more_than_it_grants_is_believed_once(drawn: list[PlannedRequest], limit: int) -> None:
    assert ResourceSimulation("quantised", limit).run(drawn).throttled <= 3 + limit / 60


# ------------------------------------------------------------ nonsense

numbers = st.none() | st.integers(0, 400).map(float) | st.integers(0, 10**15).map(float)
words = st.builds(Reported, numbers.filter(lambda limit: limit != 0), numbers, st.none() | st.floats(0, 1e9))
signals = st.tuples(words, st.floats(0, 100), st.integers(1, 500), st.booleans(), st.booleans())


@pytest.mark.parametrize("tolerance", [0.0, 0.3])
@pytest.mark.parametrize("configured", [None, 300.0])
@settings(max_examples=EXAMPLES)
@given(drawn=st.lists(signals, max_size=30), cost=st.integers(1, 200))
def test_no_nonsense_of_a_server_raises_or_stops_it_for_good(
    configured: float | None, tolerance: float, drawn: list[tuple[Reported, float, int, bool, bool]], cost: int
) -> None:
    meter, now = ResourceLimiter(configured, tolerance=tolerance), 0.0
    for said, pause_s, amount, refused, promised in drawn:
        now += pause_s
        meter.on_grant(amount, now)
        meter.on_sent(amount, now)
        meter.on_headers(said, now, amount, now + 0.2, refused=refused)
        if refused:
            meter.on_throttled(now, now + 0.2, had_room=promised)
        meter.on_response(now)
        assert not isnan(meter.earliest(cost, now + 0.2))
    began = now = now + 0.2
    owed = sum(amount for _, _, amount, _, _ in drawn)
    while (at := meter.earliest(cost, now)) > now + 1e-6:
        assert not isnan(at)
        assert began <= at < inf, "nothing more will happen"
        assert at < began + MAX_WAIT_S + 60 * owed, "no limit is less than 1 a minute"
        now = at


def heard(shown: float, sent: list[float], cost: int, limit: int = 300) -> float:
    """When a cost may go that is asked for as soon as the last request has shown what remains."""
    meter = ResourceLimiter(limit, tolerance=0.0)
    for at in sent:
        meter.on_grant(1, at)
        meter.on_sent(1, at)
    now = sent[-1] + 0.2
    meter.on_headers(Reported(limit, shown), sent[-1], 1, now, refused=False)
    for at in sent:
        meter.on_response(at)
    return meter.earliest(cost, now)


@given(
    st.lists(st.floats(0, 50), min_size=1, max_size=20).map(sorted),
    st.integers(0, 299),
    st.integers(0, 299),
    st.integers(1, 60),
)
def test_less_that_remains_never_lets_anything_go_earlier(sent: list[float], one: int, other: int, cost: int) -> None:
    assert heard(min(one, other), sent, cost) >= heard(max(one, other), sent, cost) - 1e-6


def test_more_that_remains_than_there_is_says_nothing() -> None:
    meter = ResourceLimiter(60, tolerance=0.0)
    meter.on_headers(Reported(None, 1000), 0.0, 1, 0.2, refused=False)
    assert not meter.model.has_headers


# ------------------------------------------------------------ what is never admitted


def told(meter: ResourceLimiter, limit: float, at: float) -> ResourceLimiter:
    meter.on_headers(Reported(limit, 0), at, 1, at + 0.2, refused=False)
    return meter


def test_more_than_a_whole_minutes_limit_never_fits() -> None:
    assert ResourceLimiter(300, tolerance=0.3).exceeds_limit(301)
    assert not ResourceLimiter(300, tolerance=0.3).exceeds_limit(300)
    assert not ResourceLimiter(None, tolerance=0.3).exceeds_limit(10**9)


def test_what_the_server_may_charge_less_for_is_tried() -> None:
    meter = told(ResourceLimiter(None, tolerance=0.3), 300, 0.0)
    assert not meter.exceeds_limit(400)
    assert meter.exceeds_limit(429)


def test_a_limit_that_slips_for_less_than_a_minute_fails_nothing() -> None:
    meter = told(told(told(ResourceLimiter(None, tolerance=0.0), 300, 0.0), 5, 10.0), 5, 69.9)
    assert not meter.exceeds_limit(100)
    assert told(meter, 5, 70.1).exceeds_limit(100)


# ------------------------------------------------------------ what is given back


def test_a_permit_that_is_given_back_costs_nothing() -> None:
    meter = ResourceLimiter(60, tolerance=0.0)
    meter.on_grant(30, 0.0)
    assert meter.earliest(1, 0.0) > 25
    meter.on_cancelled(30, 0.0)
    assert meter.earliest(1, 0.0) <= 0.5


def test_what_was_not_used_is_given_back() -> None:
    meter = ResourceLimiter(6000, tolerance=0.3)
    meter.on_grant(6000, 0.0)
    meter.on_sent(6000, 0.0)
    waits_s = meter.earliest(100, 1.0)
    meter.refund(5800, 0.0)
    assert meter.earliest(100, 1.0) < 5 < 59 < waits_s


def test_after_a_told_wait_a_small_bucket_has_room_for_what_was_refused_and_not_for_all() -> None:
    meter = ResourceLimiter(6000, tolerance=0.3)
    meter.on_grant(1000, 0.0)
    meter.on_sent(1000, 0.0)
    meter.on_throttled(0.0, 0.2, had_room=True)
    meter.reset_pacer(5.0, 25)
    assert 5.7 <= meter.earliest(10, 0.3) <= 6.0


def find_rate(limiter: ResourceLimiter) -> None:
    """By a burst of 40 requests, the last of which is throttled without a word about limits."""
    limiter.on_grant(40, 10.0)
    limiter.on_sent(40, 10.0)
    limiter.on_unexplained_429(10.0, 10.1)
    limiter.on_grant(0, 12.0)
    assert limiter.has_found_rate


def test_a_permit_given_back_costs_nothing_where_the_limit_is_but_a_guess() -> None:
    meter = ResourceLimiter(None, tolerance=0.0)
    find_rate(meter)
    meter.on_grant(1, 20.0)
    before = meter.earliest(1, 20.0)
    meter.on_grant(1, before)
    meter.on_cancelled(1, before)
    assert meter.earliest(1, 20.0) == pytest.approx(before, abs=1e-3)


def test_a_guess_is_not_slowed_down_a_second_time() -> None:
    calm, refused = ResourceLimiter(None, tolerance=0.0), ResourceLimiter(None, tolerance=0.0)
    for meter in (calm, refused):
        find_rate(meter)
    for at in range(20, 40):
        refused.on_throttled(at, at + 0.5, had_room=False)
    for meter in (calm, refused):
        meter.on_grant(1, 50.0)
    assert refused.earliest(1, 50.0) == calm.earliest(1, 50.0)


def test_what_was_found_to_fit_makes_no_burst_where_others_may_have_used_it() -> None:
    meter, left, at = ResourceLimiter(300, tolerance=0.0), 300.0, 0.0
    for second in range(20):
        at = max(at + 1.0, meter.earliest(1, at))
        burst = send(meter, at, 8)
        # As much again is used by others, later on.
        left = min(300.0, left + 5.0) - burst * (2 if second > 10 else 1)
        for _ in range(burst):
            meter.on_headers(Reported(300.0, left, None), at, 1, at + 0.05, refused=False)
            meter.on_response(at)
    later = at + 15.0
    assert meter.model.is_stale(later)
    assert 1 <= send(meter, later, 50) <= 3


def send(meter: ResourceLimiter, at: float, most: int) -> int:
    """As many as may go then."""
    sent = 0
    while sent < most and meter.earliest(1, at) <= at:
        meter.on_grant(1, at)
        meter.on_sent(1, at)
        sent += 1
    return sent
