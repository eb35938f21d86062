from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.simulator import rate_limiter
from processor.simulator.counters import MINUTE_NS, SECOND_NS
from processor.simulator.rate_limiter import LIMITER_KINDS, LimiterKind, ServerRateLimiter

Arrivals = Sequence[tuple[int, int]]
"""Milliseconds since the previous arrival, and tokens."""

arrivals = st.lists(
    st.tuples(st.sampled_from((0, 1, 7, 200, 999, 5_000, 20_000, 60_000)), st.integers(1, 60)), max_size=60
)
kinds = st.sampled_from(LIMITER_KINDS)


class CountedSliding:
    """Applies the definition of the limit to all entries each time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.seen: list[tuple[int, int]] = []

    def remaining(self, now: int) -> Fraction:
        return Fraction(self.limit - sum(cost for at, cost in self.seen if at > now - MINUTE_NS))

    def fits(self, now: int, cost: int) -> bool:
        return self.remaining(now) >= cost

    def count(self, now: int, cost: int) -> None:
        self.seen.append((now, cost))

    count_throttled = count


class CountedBucket:
    def __init__(self, limit: int, window_s: int) -> None:
        self.rate = Fraction(limit, MINUTE_NS)
        self.capacity = max(Fraction(1), Fraction(limit * window_s, 60))
        self.level, self.at = self.capacity, 0

    def remaining(self, now: int) -> Fraction:
        self.level, self.at = min(self.capacity, self.level + (now - self.at) * self.rate), now
        return self.level

    def fits(self, now: int, cost: int) -> bool:
        return self.remaining(now) >= min(Fraction(cost), self.capacity)

    def count(self, now: int, cost: int) -> None:
        self.level = self.remaining(now) - cost

    def count_throttled(self, now: int, cost: int) -> None:
        self.level = max(Fraction(0), self.remaining(now) - cost)


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
def test_limiter_agrees_with_a_naive_counter(
    kind: LimiterKind, gaps: Arrivals, rpm: int, tpm: int, count_throttled: bool
) -> None:
    limiter = ServerRateLimiter(rpm, tpm, kind=kind, count_throttled=count_throttled)
    requests, tokens = counted(kind, rpm), counted(kind, tpm)
    for at, cost in times(gaps):
        now = round(at * SECOND_NS)
        is_admitted = requests.fits(now, 1) and tokens.fits(now, cost)
        if is_admitted:
            requests.count(now, 1)
            tokens.count(now, cost)
        elif count_throttled:
            requests.count_throttled(now, 1)
        assert limiter.admit(at, cost).is_admitted == is_admitted
        if kind not in ("silent", "quantised"):
            headers = limiter.headers(at)
            assert int(headers["x-ratelimit-remaining-requests"]) == max(0, requests.remaining(now) // 1)
            assert int(headers["x-ratelimit-remaining-tokens"]) == max(0, tokens.remaining(now) // 1)


@given(gaps=arrivals, limit=st.integers(60, 300))
def test_sliding_limiter_admits_at_most_the_limit_in_any_minute(gaps: Arrivals, limit: int) -> None:
    limiter = ServerRateLimiter(20, limit, kind="sliding")
    admitted = [(round(at * SECOND_NS), cost) for at, cost in times(gaps) if limiter.admit(at, cost).is_admitted]
    windows = [[cost for at, cost in admitted if end - MINUTE_NS < at <= end] for end, _ in admitted]
    assert limiter.log.max_in_window("requests") == max(map(len, windows), default=0) <= 20
    assert limiter.log.max_in_window("tokens") == max(map(sum, windows), default=0) <= limit


@given(kind=kinds, gaps=arrivals)
def test_request_is_admitted_after_retry_after_and_not_before(kind: LimiterKind, gaps: Arrivals) -> None:
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
def test_min_duration_is_reached_by_a_client_that_retries_often(kind: LimiterKind, costs: list[int]) -> None:
    limiter = ServerRateLimiter(120, 240, kind=kind, count_throttled=False)
    tries_a_second, tries = 20, 0
    for cost in costs:
        while not limiter.admit(tries / tries_a_second, cost).is_admitted:
            tries += 1
    # Each request may be admitted one attempt later than possible, and so may all after it.
    assert (
        (tries - len(costs)) / tries_a_second - 1e-9 <= limiter.min_duration_s(costs) <= tries / tries_a_second + 1e-9
    )


@pytest.mark.parametrize(("kind", "ideal_s"), [("sliding", 300), ("silent", 300), ("minute", 270), ("second", 329)])
def test_min_duration_of_1650_requests_at_300_per_minute(kind: LimiterKind, ideal_s: float) -> None:
    assert ServerRateLimiter(300, None, kind=kind).min_duration_s([0] * 1650) == pytest.approx(ideal_s)
    assert ServerRateLimiter(None, 30_000, kind=kind).min_duration_s([100] * 1650) == pytest.approx(ideal_s)


def test_min_duration_of_a_request_above_the_limit_raises_value_error() -> None:
    with pytest.raises(ValueError, match="exceeds the limit of 1000"):
        ServerRateLimiter(60, 1000).min_duration_s([10, 1001])


def test_full_second_bucket_admits_a_larger_request_and_refills_its_debt() -> None:
    limiter = ServerRateLimiter(None, 600, kind="second")
    assert limiter.admit(0.0, 40).is_admitted
    refused = limiter.admit(0.0, 5)
    assert refused.resource == "tokens" and refused.retry_after_s == pytest.approx(3.5)
    assert limiter.headers(1.0)["x-ratelimit-remaining-tokens"] == "0"


@pytest.mark.parametrize("kind", LIMITER_KINDS)
def test_request_above_the_limit_per_minute_is_never_admitted(kind: LimiterKind) -> None:
    decision = ServerRateLimiter(10, 600, kind=kind).admit(0.0, 601)
    assert (decision.is_admitted, decision.resource, decision.retry_after_s) == (False, "tokens", None)
    assert (decision.limit, decision.requested) == (600, 601)


def test_request_above_the_token_limit_is_reported_before_the_full_request_limit() -> None:
    limiter = ServerRateLimiter(1, 100)
    limiter.admit(0.0, 1)
    decision = limiter.admit(0.0, 101)
    assert (decision.resource, decision.retry_after_s) == ("tokens", None)


def test_bucket_holds_at_least_one_request() -> None:
    limiter = ServerRateLimiter(6, None, kind="second")
    assert limiter.admit(0.0).is_admitted
    assert limiter.admit(5.0).retry_after_s == 10.0
    assert ServerRateLimiter(6, None, kind="second", count_throttled=False).min_duration_s([0] * 7) == 60.0


def test_client_that_retries_at_once_stays_throttled_if_throttled_requests_count() -> None:
    patient, hammering = (ServerRateLimiter(60, None, kind="second", count_throttled=count) for count in (False, True))
    for tenth in range(100):
        patient.admit(tenth / 10)
        hammering.admit(tenth / 10)
    assert (patient.log.admitted, hammering.log.admitted) == (10, 1)
    assert hammering.log.throttled == {"requests": 99}


def test_request_throttled_by_tokens_counts_against_the_request_limit() -> None:
    limiter = ServerRateLimiter(3, 100)
    assert limiter.admit(0.0, 90).is_admitted
    assert [limiter.admit(1.0, 50).resource for _ in range(3)] == ["tokens", "tokens", "requests"]
    assert not ServerRateLimiter(None, 100).admit(0.0, 101).is_admitted


def test_retry_after_includes_the_request_that_the_429_itself_used() -> None:
    limiter = ServerRateLimiter(2, 100, kind="minute")
    assert limiter.admit(0.0, 100).is_admitted
    refused = limiter.admit(0.0, 10)
    assert (refused.resource, refused.retry_after_s) == ("tokens", 30.0)


def test_requests_of_another_client_count_but_are_not_logged() -> None:
    limiter = ServerRateLimiter(10, None)
    for _ in range(6):
        limiter.admit(0.0, is_other_client=True)
    assert [limiter.admit(1.0).is_admitted for _ in range(5)] == [True] * 4 + [False]
    assert not limiter.admit(1.0, is_other_client=True).is_admitted
    assert (limiter.log.admitted, limiter.log.throttled["requests"]) == (4, 1)


@pytest.mark.parametrize("kind", ["sliding", "minute", "quantised"])
def test_changed_limits_apply_from_then_on(kind: LimiterKind) -> None:
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


def test_log_reports_usage_by_time() -> None:
    limiter = ServerRateLimiter(100, 1000)
    for at, tokens in ((1.0, 10), (2.0, 20), (62.0, 30)):
        limiter.admit(at, tokens)
    log = limiter.log
    assert (log.first_at, log.last_at, log.admitted) == (1.0, 62.0, 3)
    assert (log.used_between("requests", 1.0, 62.0), log.used_between("tokens", 1.0, 62.0)) == (2, 50)
    assert (log.max_in_window("requests"), log.max_in_window("tokens", 120.0)) == (2, 60)


def test_expired_entries_are_removed() -> None:
    limiter = ServerRateLimiter(6000, None)
    for tenth in range(30_000):
        assert limiter.admit(tenth / 10).is_admitted
    assert limiter.headers(2999.9)["x-ratelimit-remaining-requests"] == "5400"
    meter = limiter._enforced_counters["requests"]
    assert len(vars(meter)["_times"]) < 5000


def test_log_of_requests_is_bounded_and_counts_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limiter, "MAX_LOGGED", 10)
    limiter = ServerRateLimiter(None, None)
    for at in range(100):
        limiter.admit(float(at))
    assert limiter.log.admitted == 100
    assert len(limiter.log.at_ns) <= 10
    assert limiter.log.last_at == 99.0
