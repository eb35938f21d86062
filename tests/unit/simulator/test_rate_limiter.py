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

    def take(self, now: int, cost: int) -> None:
        self.seen.append((now, cost))

    waste = take


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

    def take(self, now: int, cost: int) -> None:
        self.level = self.left(now) - cost

    def waste(self, now: int, cost: int) -> None:
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


@given(kind=kinds, gaps=arrivals, rpm=st.integers(1, 90), tpm=st.integers(60, 900), count_refused=st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_kind_admits_and_shows_what_counting_gives(
    kind: LimiterKind, gaps: Arrivals, rpm: int, tpm: int, count_refused: bool
) -> None:
    referee = ServerRateLimiter(rpm, tpm, kind=kind, count_refused=count_refused)
    requests, tokens = counted(kind, rpm), counted(kind, tpm)
    for at, cost in times(gaps):
        now = round(at * SECOND_NS)
        fits = requests.has_room(now, 1) and tokens.has_room(now, cost)
        if fits:
            requests.take(now, 1)
            tokens.take(now, cost)
        elif count_refused:
            requests.waste(now, 1)
        assert referee.admit(at, cost).ok == fits
        if kind not in ("silent", "quantised"):
            headers = referee.headers(at)
            assert int(headers["x-ratelimit-remaining-requests"]) == max(0, requests.left(now) // 1)
            assert int(headers["x-ratelimit-remaining-tokens"]) == max(0, tokens.left(now) // 1)


@given(gaps=arrivals, limit=st.integers(60, 300))
@settings(max_examples=100, deadline=None)
def test_no_minute_of_a_sliding_window_holds_more_than_the_limit(gaps: Arrivals, limit: int) -> None:
    referee = ServerRateLimiter(20, limit, kind="sliding")
    admitted = [(round(at * SECOND_NS), cost) for at, cost in times(gaps) if referee.admit(at, cost).ok]
    windows = [[cost for at, cost in admitted if end - MINUTE_NS < at <= end] for end, _ in admitted]
    assert referee.log.fullest_window("requests") == max(map(len, windows), default=0) <= 20
    assert referee.log.fullest_window("tokens") == max(map(sum, windows), default=0) <= limit


@given(kind=kinds, gaps=arrivals)
@settings(max_examples=100, deadline=None)
def test_after_the_named_wait_there_is_room_and_not_before(kind: LimiterKind, gaps: Arrivals) -> None:
    referee = ServerRateLimiter(7, 90, kind=kind, count_refused=False)
    at = 0.0
    for gap, cost in gaps:
        at += gap / 1000
        verdict = referee.admit(at, cost)
        if not verdict.ok:
            assert verdict.retry_after_s is not None
            assert not referee.admit(at + verdict.retry_after_s - 1e-6, cost).ok
            at += verdict.retry_after_s
            assert referee.admit(at, cost).ok


@given(kind=kinds, costs=st.lists(st.integers(1, 60), max_size=12))
@settings(max_examples=60, deadline=None)
def test_nobody_is_through_before_the_ideal_and_an_eager_client_right_at_it(
    kind: LimiterKind, costs: list[int]
) -> None:
    referee = ServerRateLimiter(120, 240, kind=kind, count_refused=False)
    tries_a_second, tries = 20, 0
    for cost in costs:
        while not referee.admit(tries / tries_a_second, cost).ok:
            tries += 1
    # Each request may come a try later than it could, and so may all after it.
    assert (tries - len(costs)) / tries_a_second - 1e-9 <= referee.ideal_s(costs) <= tries / tries_a_second + 1e-9


@pytest.mark.parametrize(("kind", "ideal_s"), [("sliding", 300), ("silent", 300), ("minute", 270), ("second", 329)])
def test_the_ideal_of_five_and_a_half_minutes_work(kind: LimiterKind, ideal_s: float) -> None:
    assert ServerRateLimiter(300, None, kind=kind).ideal_s([0] * 1650) == pytest.approx(ideal_s)
    assert ServerRateLimiter(None, 30_000, kind=kind).ideal_s([100] * 1650) == pytest.approx(ideal_s)


def test_the_ideal_of_a_request_that_can_never_go_is_an_error() -> None:
    with pytest.raises(ValueError, match="exceeds the limit of 1000"):
        ServerRateLimiter(60, 1000).ideal_s([10, 1001])


def test_a_request_of_more_than_a_second_is_let_in_by_a_full_bucket_and_paid_off_afterwards() -> None:
    referee = ServerRateLimiter(None, 600, kind="second")
    assert referee.admit(0.0, 40).ok
    refused = referee.admit(0.0, 5)
    assert refused.which == "tokens" and refused.retry_after_s == pytest.approx(3.5)
    assert referee.headers(1.0)["x-ratelimit-remaining-tokens"] == "0"


@pytest.mark.parametrize("kind", LIMITER_KINDS)
def test_a_request_larger_than_a_minute_is_never_admitted(kind: LimiterKind) -> None:
    verdict = ServerRateLimiter(10, 600, kind=kind).admit(0.0, 601)
    assert (verdict.ok, verdict.which, verdict.retry_after_s) == (False, "tokens", None)
    assert (verdict.limit, verdict.requested) == (600, 601)


def test_what_can_never_be_admitted_is_said_even_while_the_requests_are_used_up() -> None:
    referee = ServerRateLimiter(1, 100)
    referee.admit(0.0, 1)
    verdict = referee.admit(0.0, 101)
    assert (verdict.which, verdict.retry_after_s) == ("tokens", None)


def test_a_bucket_holds_at_least_one_request() -> None:
    referee = ServerRateLimiter(6, None, kind="second")
    assert referee.admit(0.0).ok
    assert referee.admit(5.0).retry_after_s == 10.0
    assert ServerRateLimiter(6, None, kind="second", count_refused=False).ideal_s([0] * 7) == 60.0


def test_a_client_that_hammers_a_bucket_is_never_let_in_where_refused_requests_count() -> None:
    patient, hammering = (ServerRateLimiter(60, None, kind="second", count_refused=count) for count in (False, True))
    for tenth in range(100):
        patient.admit(tenth / 10)
        hammering.admit(tenth / 10)
    assert (patient.log.admitted, hammering.log.admitted) == (10, 1)
    assert hammering.log.refused == {"requests": 99, "tokens": 0}


def test_a_request_refused_for_its_tokens_counts_against_the_requests() -> None:
    referee = ServerRateLimiter(3, 100)
    assert referee.admit(0.0, 90).ok
    assert [referee.admit(1.0, 50).which for _ in range(3)] == ["tokens", "tokens", "requests"]
    assert not ServerRateLimiter(None, 100).admit(0.0, 101).ok


def test_the_wait_is_for_the_request_that_the_refusal_itself_has_used_up() -> None:
    referee = ServerRateLimiter(2, 100, kind="minute")
    assert referee.admit(0.0, 100).ok
    refused = referee.admit(0.0, 10)
    assert (refused.which, refused.retry_after_s) == ("tokens", 30.0)


def test_another_client_takes_its_share_and_stands_in_no_log() -> None:
    referee = ServerRateLimiter(10, None)
    for _ in range(6):
        referee.admit(0.0, ours=False)
    assert [referee.admit(1.0).ok for _ in range(5)] == [True] * 4 + [False]
    assert not referee.admit(1.0, ours=False).ok
    assert (referee.log.admitted, referee.log.refused["requests"]) == (4, 1)


@pytest.mark.parametrize("kind", ["sliding", "minute", "quantised"])
def test_limits_changed_in_the_middle_of_a_run_hold_from_then_on(kind: LimiterKind) -> None:
    referee = ServerRateLimiter(600, 6000, kind=kind)
    for second in range(60):
        assert referee.admit(float(second), 10).ok
    referee.set_limits(60.0, rpm=60)
    referee.set_limits(60.0, tpm=600)
    headers = referee.headers(60.0)
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-limit-tokens"]) == ("60", "600")
    assert sum(referee.admit(60.0 + tenth / 10, 1).ok for tenth in range(1200)) <= 180
    referee.set_limits(240.0, rpm=6000)
    assert int(referee.headers(400.0)["x-ratelimit-remaining-requests"]) == 6000


def test_the_log_says_what_was_spent_when() -> None:
    referee = ServerRateLimiter(100, 1000)
    for at, tokens in ((1.0, 10), (2.0, 20), (62.0, 30)):
        referee.admit(at, tokens)
    log = referee.log
    assert (log.first_at, log.last_at, log.admitted) == (1.0, 62.0, 3)
    assert (log.spent("requests", 1.0, 62.0), log.spent("tokens", 1.0, 62.0)) == (2, 50)
    assert (log.fullest_window("requests"), log.fullest_window("tokens", 120.0)) == (2, 60)


def test_a_long_run_keeps_no_old_entries() -> None:
    referee = ServerRateLimiter(6000, None)
    for tenth in range(30_000):
        assert referee.admit(tenth / 10).ok
    assert referee.headers(2999.9)["x-ratelimit-remaining-requests"] == "5400"
    meter = referee._enforced["requests"]
    assert len(vars(meter)["_times"]) < 5000
