"""The decision as a function: events in, a time out. Hypothesis draws requests, delays and senseless headers."""

from __future__ import annotations

from math import inf, isnan

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processor.ratelimit.headers import Reported
from processor.ratelimit.resource_limiter import ResourceLimiter
from processor.simulator.rate_limiter import LimiterKind
from tests.support.resource_limiter_simulation import MAX_WAIT_S, PlannedRequest, ResourceSimulation

HONEST: tuple[LimiterKind, ...] = ("sliding", "minute", "second")

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
@given(drawn=asks(st.just(1)), limit=st.sampled_from([60, 90, 300]))
def test_server_that_counts_requests_refuses_none(kind: LimiterKind, drawn: list[PlannedRequest], limit: int) -> None:
    assert ResourceSimulation(kind, limit).run(drawn).throttled == 0


@pytest.mark.parametrize("kind", HONEST)
@given(drawn=asks(st.integers(1, 400) | st.integers(1, 6000)))
@example(
    # The second request costs more than a bucket of one second holds: the debt that it leaves stands in no header.
    drawn=[
        PlannedRequest(5970, 0.3, 0.08, 0.05),
        PlannedRequest(511, 0.0, 0.05, 0.05),
        PlannedRequest(1, 0.0, 0.1, 0.05),
    ]
)
@example(
    # The limit is used to its last token. What comes back of it while a burst is sent is no lower charge.
    drawn=[
        *[PlannedRequest(1, 0.0, 0.0, 0.0625)] * 8,
        PlannedRequest(347, 0.0, 0.0, 0.046875),
        *[PlannedRequest(cost, 0.0, 0.0, 0.0625) for cost in (1, 178, 327, 361, 4797)],
    ]
)
@example(
    # The first request is counted late: a window that charges a tenth less would show nearly the same.
    drawn=[
        PlannedRequest(162, 0.0, 0.09375, 0.0625),
        *[PlannedRequest(cost, 0.0, 0.0, 0.0625) for cost in (251, 862, 974, 3844)],
    ]
)
def test_server_that_counts_tokens_refuses_no_request(kind: LimiterKind, drawn: list[PlannedRequest]) -> None:
    assert ResourceSimulation(kind, 6000, by_requests=False).run(drawn).throttled == 0


@pytest.mark.parametrize("kind", HONEST)
@given(drawn=asks(st.just(1)), limit=st.sampled_from([150, 300]))
def test_server_without_headers_refuses_no_request(kind: LimiterKind, drawn: list[PlannedRequest], limit: int) -> None:
    assert ResourceSimulation(kind, limit, dialect="none").run(drawn).throttled == 0


@pytest.mark.parametrize("pause_s", [0.5, 1.0, 5.0])
def test_requests_far_apart_do_not_allow_a_burst(pause_s: float) -> None:
    """Two requests five seconds apart are not more than a bucket of one second lets through."""
    trickle = [PlannedRequest(1, pause_s, 0.0, 0.0625)] * 4
    assert (
        ResourceSimulation("quantised", 60).run([*trickle, *[PlannedRequest(1, 0.0, 0.0, 0.0625)] * 30]).throttled <= 4
    )


@given(drawn=asks(st.just(1), most=200), limit=st.sampled_from([60, 300]))
def test_server_that_reports_too_much_room_is_believed_once(drawn: list[PlannedRequest], limit: int) -> None:
    assert ResourceSimulation("quantised", limit).run(drawn).throttled <= 3 + limit / 60


# ------------------------------------------------------------ senseless headers

numbers = st.none() | st.integers(0, 400).map(float) | st.integers(0, 10**15).map(float)
words = st.builds(Reported, numbers.filter(lambda limit: limit != 0), numbers, st.none() | st.floats(0, 1e9))
signals = st.tuples(words, st.floats(0, 100), st.integers(1, 500), st.booleans(), st.booleans())


@pytest.mark.parametrize("tolerance", [0.0, 0.3])
@pytest.mark.parametrize("configured", [None, 300.0])
@given(drawn=st.lists(signals, max_size=30), cost=st.integers(1, 200))
def test_senseless_headers_raise_nothing_and_stop_nothing_for_good(
    configured: float | None, tolerance: float, drawn: list[tuple[Reported, float, int, bool, bool]], cost: int
) -> None:
    limiter, now = ResourceLimiter(configured, tolerance=tolerance), 0.0
    for reported, pause_s, amount, refused, had_room in drawn:
        now += pause_s
        limiter.on_grant(amount, now)
        limiter.on_sent(amount, now)
        limiter.on_headers(reported, now, amount, now + 0.2, refused=refused)
        if refused:
            limiter.on_throttled(now, now + 0.2, had_room=had_room)
        limiter.on_response(amount, now, now + 0.2)
        assert not isnan(limiter.earliest(cost, now + 0.2))
    began = now = now + 0.2
    owed = sum(amount for _, _, amount, _, _ in drawn)
    while (at := limiter.earliest(cost, now)) > now + 1e-6:
        assert not isnan(at)
        assert began <= at < inf, "nothing more will happen"
        assert at < began + MAX_WAIT_S + 60 * owed, "no limit is less than 1 a minute"
        now = at


def earliest_after_headers(shown: float, sent: list[float], cost: int, limit: int = 300) -> float:
    """When a cost may be sent, asked as soon as the last request has shown what remains."""
    limiter = ResourceLimiter(limit, tolerance=0.0)
    for at in sent:
        limiter.on_grant(1, at)
        limiter.on_sent(1, at)
    now = sent[-1] + 0.2
    limiter.on_headers(Reported(limit, shown), sent[-1], 1, now, refused=False)
    for at in sent:
        limiter.on_response(1, at, now)
    return limiter.earliest(cost, now)


@given(
    st.lists(st.floats(0, 50), min_size=1, max_size=20).map(sorted),
    st.integers(0, 299),
    st.integers(0, 299),
    st.integers(1, 60),
)
def test_lower_remaining_never_permits_an_earlier_request(sent: list[float], one: int, other: int, cost: int) -> None:
    assert (
        earliest_after_headers(min(one, other), sent, cost)
        >= earliest_after_headers(max(one, other), sent, cost) - 1e-6
    )


def test_remaining_above_the_limit_is_ignored_by_the_model() -> None:
    limiter = ResourceLimiter(60, tolerance=0.0)
    limiter.on_headers(Reported(None, 1000), 0.0, 1, 0.2, refused=False)
    assert limiter.model.headers_at == -inf


# ------------------------------------------------------------ costs above the limit


def report_limit(limiter: ResourceLimiter, limit: float, at: float) -> ResourceLimiter:
    limiter.on_headers(Reported(limit, 0), at, 1, at + 0.2, refused=False)
    return limiter


def test_cost_above_a_minutes_limit_exceeds_it() -> None:
    assert ResourceLimiter(300, tolerance=0.3).max_cost == 300
    assert ResourceLimiter(None, tolerance=0.3).max_cost == inf


def test_cost_that_the_server_may_charge_less_for_is_tried() -> None:
    limiter = report_limit(ResourceLimiter(None, tolerance=0.3), 300, 0.0)
    assert 400 <= limiter.max_cost < 429


def test_limit_that_is_too_low_for_less_than_a_minute_fails_nothing() -> None:
    limiter = report_limit(report_limit(report_limit(ResourceLimiter(None, tolerance=0.0), 300, 0.0), 5, 10.0), 5, 69.9)
    assert limiter.max_cost >= 100
    assert report_limit(limiter, 5, 70.1).max_cost < 100


# ------------------------------------------------------------ refunds


def test_cancelled_request_costs_nothing() -> None:
    limiter = ResourceLimiter(60, tolerance=0.0)
    limiter.on_grant(30, 0.0)
    assert limiter.earliest(1, 0.0) > 25
    limiter.on_cancelled(30, 0.0)
    assert limiter.earliest(1, 0.0) <= 0.5


def test_unused_cost_is_refunded() -> None:
    limiter = ResourceLimiter(6000, tolerance=0.3)
    limiter.on_grant(6000, 0.0)
    limiter.on_sent(6000, 0.0)
    waits_s = limiter.earliest(100, 1.0)
    limiter.refund(5800, 0.0, 1.0)
    assert limiter.earliest(100, 1.0) < 5 < 59 < waits_s


def test_pacer_reset_leaves_room_in_a_small_bucket_for_the_refused_cost_only() -> None:
    limiter = ResourceLimiter(6000, tolerance=0.3)
    limiter.on_grant(1000, 0.0)
    limiter.on_sent(1000, 0.0)
    limiter.on_throttled(0.0, 0.2, had_room=True)
    limiter.reset_pacer(5.0, 25)
    assert 5.7 <= limiter.earliest(10, 0.3) <= 6.0


def find_rate(limiter: ResourceLimiter) -> None:
    """By a burst of 40 requests, the last of which are throttled without a word about limits."""
    sent_times = [10.0 + n / 1000 for n in range(40)]
    for at in sent_times:
        limiter.on_grant(1, at)
        limiter.on_sent(1, at)
    for at in sent_times[-4:]:
        limiter.on_unexplained_429(at, 10.1)
    limiter.on_grant(0, 12.0)
    assert limiter.has_found_rate


def test_cancelled_request_costs_nothing_at_a_rate_found_by_trying() -> None:
    limiter = ResourceLimiter(None, tolerance=0.0)
    find_rate(limiter)
    limiter.on_grant(1, 20.0)
    before = limiter.earliest(1, 20.0)
    limiter.on_grant(1, before)
    limiter.on_cancelled(1, before)
    assert limiter.earliest(1, 20.0) == pytest.approx(before, abs=1e-3)


def test_pacer_does_not_back_off_from_a_rate_found_by_trying() -> None:
    calm, refused = ResourceLimiter(None, tolerance=0.0), ResourceLimiter(None, tolerance=0.0)
    for limiter in (calm, refused):
        find_rate(limiter)
    for at in range(20, 40):
        refused.on_throttled(at, at + 0.5, had_room=False)
    for limiter in (calm, refused):
        limiter.on_grant(1, 50.0)
    assert refused.earliest(1, 50.0) == calm.earliest(1, 50.0)


def test_stale_headers_permit_no_burst_on_a_shared_key() -> None:
    limiter, left, at = ResourceLimiter(300, tolerance=0.0), 300.0, 0.0
    for second in range(20):
        at = max(at + 1.0, limiter.earliest(1, at))
        burst = send(limiter, at, 8)
        # As much again is used by others, later on.
        left = min(300.0, left + 5.0) - burst * (2 if second > 10 else 1)
        for _ in range(burst):
            limiter.on_headers(Reported(300.0, left, None), at, 1, at + 0.05, refused=False)
            limiter.on_response(1, at, at + 0.05)
    later = at + 15.0
    assert limiter.model.is_stale(later)
    assert 1 <= send(limiter, later, 50) <= 3


def test_requests_that_others_overtake_do_not_make_a_window_a_bucket() -> None:
    """A busy server counts what comes on its open connections before all that waits on new ones."""
    limiter = with_room(ResourceLimiter(300, tolerance=0.0))
    for number in range(200):  # sent within 2 s; the server counts the second hundred first
        limiter.on_grant(1, 1.0 + number / 100)
        limiter.on_sent(1, 1.0 + number / 100)
    for counted, number in enumerate((*range(100, 200), *range(100))):
        sent_at, at = 1.0 + number / 100, 3.0 + counted / 100
        limiter.on_headers(Reported(300, 298 - counted), sent_at, 1, at, refused=False)
        limiter.on_response(1, sent_at, at)
    assert limiter.model.counter_type != "bucket"
    assert send(limiter, 5.0, 300) <= 99


def send(limiter: ResourceLimiter, at: float, most: int) -> int:
    """Send as many as may be sent then."""
    sent = 0
    while sent < most and limiter.earliest(1, at) <= at:
        limiter.on_grant(1, at)
        limiter.on_sent(1, at)
        sent += 1
    return sent


# ------------------------------------------------------------ strategies


def with_room(limiter: ResourceLimiter) -> ResourceLimiter:
    """After one request, whose response shows that all the rest of 300 remains."""
    limiter.on_grant(1, 0.0)
    limiter.on_sent(1, 0.0)
    limiter.on_headers(Reported(300, 299), 0.0, 1, 0.2, refused=False)
    limiter.on_response(1, 0.0, 0.2)
    return limiter


def test_headers_with_room_permit_a_burst() -> None:
    assert send(with_room(ResourceLimiter(300, tolerance=0.0)), 0.5, 100) >= 6


def test_no_burst_is_sent_where_bursts_are_switched_off() -> None:
    assert send(with_room(ResourceLimiter(300, tolerance=0.0, bursts=False)), 0.5, 100) <= 2


def test_no_burst_is_sent_where_the_configured_limit_is_below_the_servers() -> None:
    assert send(with_room(ResourceLimiter(200, tolerance=0.0)), 0.5, 100) <= 2


def test_requests_are_sent_at_once_where_no_limit_is_known() -> None:
    assert send(ResourceLimiter(None, tolerance=0.0), 0.0, 100) == 100
