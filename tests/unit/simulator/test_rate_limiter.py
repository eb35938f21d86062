from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.simulator.counters import MINUTE_NS, SECOND_NS
from processor.simulator.rate_limiter import LIMITER_KINDS, LimiterKind, ServerRateLimiter

Arrivals = Sequence[tuple[int, int]]
"""Milliseconds since the one before, and tokens."""

arrivals = st.lists(
    st.tuples(st.sampled_from((0, 1, 7, 200, 999, 5_000, 20_000, 60_000)), st.integers(1, 60)), max_size=60
)
kinds = st.sampled_from(LIMITER_KINDS)


class CountedSliding:
    """The rule itself, counted anew each time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.seen: list[tuple[int, int]] = []

    def left(self, now: int) -> Fraction:
        return Fraction(self.limit - sum(cost for at, cost in self.seen if at > now - MINUTE_NS))

    def has_room(self, now: int, cost: int) -> bool:
        return self.left(now) >= cost

    def count(self, now: int, cost: int) -> None:
        self.seen.append((now, cost))

    count_throttled = count


class CountedBucket:
    def __init__(self, limit: int, window_s: int) -> None:
        self.rate = Fraction(limit, MINUTE_NS)
        self.capacity = max(Fraction(1), Fraction(limit * window_s, 60))
        self.level, self.at = self.capacity, 0

    def left(self, now: int) -> Fraction:
        self.level, self.at = min(self.capacity, self.level + (now - self.at) * self.rate), now
        return self.level

    def has_room(self, now: int, cost: int) -> bool:
        return self.left(now) >= min(Fraction(cost), self.capacity)

    def count(self, now: int, cost: int) -> None:
        self.level = self.left(now) - cost

    def count_throttled(self, now: int, cost: int) -> None:
        self.level = max(Fraction(0), self.left(now) - cost)


def counted(kind: LimiterKind, limit: int) -> CountedSliding | CountedBucket:
    if kind in ("sliding", "silent"):
        return CountedSliding(limit)
    return CountedBucket(limit, 60 if kind == "minute" else 1)


def times(gaps: Arrivals) -> list[tuple[float, int]]:
    at, arrived = 0, []
    for gap, tokens in gaps:
        at += gap
        arrived.append((at / 1000, tokens))
    return arrived


@given(kind=kinds, gaps=arrivals, rpm=st.integers(1, 90), tpm=st.integers(60, 900), count_throttled=st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_kind_admits_and_shows_what_counting_gives(
    kind: LimiterKind, gaps: Arrivals, rpm: int, tpm: int, count_throttled: bool
) -> None:
    limiter = ServerRateLimiter(rpm, tpm, kind=kind, count_throttled=count_throttled)
    requests, tokens = counted(kind, rpm), counted(kind, tpm)
    for at, cost in times(gaps):
        now = round(at * SECOND_NS)
        fits = requests.has_room(now, 1) and tokens.has_room(now, cost)
        if fits:
            requests.count(now, 1)
            tokens.count(now, cost)
        elif count_throttled:
            requests.count_throttled(now, 1)
        assert limiter.admit(at, cost).is_admitted == fits
        if kind not in ("silent", "quantised"):
            headers = limiter.headers(at)
            assert int(headers["x-ratelimit-remaining-requests"]) == max(0, requests.left(now) // 1)
            assert int(headers["x-ratelimit-remaining-tokens"]) == max(0, tokens.left(now) // 1)


@given(gaps=arrivals, limit=st.integers(60, 300))
@settings(max_examples=100, deadline=None)
def test_no_minute_of_a_sliding_window_holds_more_than_the_limit(gaps: Arrivals, limit: int) -> None:
    limiter = ServerRateLimiter(20, limit, kind="sliding")
    admitted = [(round(at * SECOND_NS), cost) for at, cost in times(gaps) if limiter.admit(at, cost).is_admitted]
    windows = [[cost for at, cost in admitted if end - MINUTE_NS < at <= end] for end, _ in admitted]
    assert limiter.log.max_in_window("requests") == max(map(len, windows), default=0) <= 20
    assert limiter.log.max_in_window("tokens") == max(map(sum, windows), default=0) <= limit


@given(kind=kinds, gaps=arrivals)
@settings(max_examples=100, deadline=None)
def test_after_the_named_wait_there_is_room_and_not_before(kind: LimiterKind, gaps: Arrivals) -> None:
    limiter = ServerRateLimiter(7, 90, kind=kind, count_throttled=False)
    at = 0.0
    for gap, cost in gaps:
        at += gap / 1000
        decision = limiter.admit(at, cost)
        if not decision.is_admitted:
            assert decision.retry_after_s is not None
            assert not limiter.admit(at + decision.retry_after_s - 1e-6, cost).is_admitted
            at += decision.retry_after_s
            assert limiter.admit(at, cost).is_admitted


@given(kind=kinds, costs=st.lists(st.integers(1, 60), max_size=12))
@settings(max_examples=60, deadline=None)
def test_nobody_is_through_before_the_ideal_and_an_eager_client_right_at_it(
    kind: LimiterKind, costs: list[int]
) -> None:
    limiter = ServerRateLimiter(120, 240, kind=kind, count_throttled=False)
    tries_a_second, tries = 20, 0
    for cost in costs:
        while not limiter.admit(tries / tries_a_second, cost).is_admitted:
            tries += 1
    # Each request may come a try later than it could, and so may all after it.
    assert (
        (tries - len(costs)) / tries_a_second - 1e-9 <= limiter.min_duration_s(costs) <= tries / tries_a_second + 1e-9
    )


@pytest.mark.parametrize(("kind", "ideal_s"), [("sliding", 300), ("silent", 300), ("minute", 270), ("second", 329)])
def test_the_ideal_of_five_and_a_half_minutes_work(kind: LimiterKind, ideal_s: float) -> None:
    assert ServerRateLimiter(300, None, kind=kind).min_duration_s([0] * 1650) == pytest.approx(ideal_s)
    assert ServerRateLimiter(None, 30_000, kind=kind).min_duration_s([100] * 1650) == pytest.approx(ideal_s)


def test_the_ideal_of_a_request_that_can_never_go_is_an_error() -> None:
    with pytest.raises(ValueError, match="exceeds the limit of 1000"):
        ServerRateLimiter(60, 1000).min_duration_s([10, 1001])


def test_a_request_of_more_than_a_second_is_let_in_by_a_full_bucket_and_paid_off_afterwards() -> None:
    limiter = ServerRateLimiter(None, 600, kind="second")
    assert limiter.admit(0.0, 40).is_admitted
    refused = limiter.admit(0.0, 5)
    assert refused.resource == "tokens" and refused.retry_after_s == pytest.approx(3.5)
    assert limiter.headers(1.0)["x-ratelimit-remaining-tokens"] == "0"


@pytest.mark.parametrize("kind", LIMITER_KINDS)
def test_a_request_larger_than_a_minute_is_never_admitted(kind: LimiterKind) -> None:
    decision = ServerRateLimiter(10, 600, kind=kind).admit(0.0, 601)
    assert (decision.is_admitted, decision.resource, decision.retry_after_s) == (False, "tokens", None)
    assert (decision.limit, decision.requested) == (600, 601)


def test_what_can_never_be_admitted_is_said_even_while_the_requests_are_used_up() -> None:
    limiter = ServerRateLimiter(1, 100)
    limiter.admit(0.0, 1)
    decision = limiter.admit(0.0, 101)
    assert (decision.resource, decision.retry_after_s) == ("tokens", None)


def test_a_bucket_holds_at_least_one_request() -> None:
    limiter = ServerRateLimiter(6, None, kind="second")
    assert limiter.admit(0.0).is_admitted
    assert limiter.admit(5.0).retry_after_s == 10.0
    assert ServerRateLimiter(6, None, kind="second", count_throttled=False).min_duration_s([0] * 7) == 60.0


def test_a_client_that_hammers_a_bucket_is_never_let_in_where_refused_requests_count() -> None:
    patient, hammering = (ServerRateLimiter(60, None, kind="second", count_throttled=count) for count in (False, True))
    for tenth in range(100):
        patient.admit(tenth / 10)
        hammering.admit(tenth / 10)
    assert (patient.log.admitted, hammering.log.admitted) == (10, 1)
    assert hammering.log.throttled == {"requests": 99, "tokens": 0}


def test_a_request_refused_for_its_tokens_counts_against_the_requests() -> None:
    limiter = ServerRateLimiter(3, 100)
    assert limiter.admit(0.0, 90).is_admitted
    assert [limiter.admit(1.0, 50).resource for _ in range(3)] == ["tokens", "tokens", "requests"]
    assert not ServerRateLimiter(None, 100).admit(0.0, 101).is_admitted


def test_the_wait_is_for_the_request_that_the_refusal_itself_has_used_up() -> None:
    limiter = ServerRateLimiter(2, 100, kind="minute")
    assert limiter.admit(0.0, 100).is_admitted
    refused = limiter.admit(0.0, 10)
    assert (refused.resource, refused.retry_after_s) == ("tokens", 30.0)


def test_another_client_takes_its_share_and_stands_in_no_log() -> None:
    limiter = ServerRateLimiter(10, None)
    for _ in range(6):
        limiter.admit(0.0, is_other_client=True)
    assert [limiter.admit(1.0).is_admitted for _ in range(5)] == [True] * 4 + [False]
    assert not limiter.admit(1.0, is_other_client=True).is_admitted
    assert (limiter.log.admitted, limiter.log.throttled["requests"]) == (4, 1)


@pytest.mark.parametrize("kind", ["sliding", "minute", "quantised"])
def test_limits_changed_in_the_middle_of_a_run_hold_from_then_on(kind: LimiterKind) -> None:
    limiter = ServerRateLimiter(600, 6000, kind=kind)
    for second in range(60):
        assert limiter.admit(float(second), 10).is_admitted
    limiter.set_limits(60.0, rpm=60)
    limiter.set_limits(60.0, tpm=600)
    headers = limiter.headers(60.0)
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-limit-tokens"]) == ("60", "600")
    assert sum(limiter.admit(60.0 + tenth / 10, 1).is_admitted for tenth in range(1200)) <= 180
    limiter.set_limits(240.0, rpm=6000)
    assert int(limiter.headers(400.0)["x-ratelimit-remaining-requests"]) == 6000


def test_the_log_says_what_was_spent_when() -> None:
    limiter = ServerRateLimiter(100, 1000)
    for at, tokens in ((1.0, 10), (2.0, 20), (62.0, 30)):
        limiter.admit(at, tokens)
    log = limiter.log
    assert (log.first_at, log.last_at, log.admitted) == (1.0, 62.0, 3)
    assert (log.used_between("requests", 1.0, 62.0), log.used_between("tokens", 1.0, 62.0)) == (2, 50)
    assert (log.max_in_window("requests"), log.max_in_window("tokens", 120.0)) == (2, 60)


def test_a_long_run_keeps_no_old_entries() -> None:
    limiter = ServerRateLimiter(6000, None)
    for tenth in range(30_000):
        assert limiter.admit(tenth / 10).is_admitted
    assert limiter.headers(2999.9)["x-ratelimit-remaining-requests"] == "5400"
    meter = limiter._enforced_counters["requests"]
    assert len(vars(meter)["_times"]) < 5000
