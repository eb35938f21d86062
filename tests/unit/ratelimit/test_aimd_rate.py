from __future__ import annotations

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.ratelimit.estimator.server_model import UNLIMITED
from processor.ratelimit.strategies.aimd_rate import AimdRate


def send(rate: AimdRate, at: float) -> None:
    rate.on_grant(at)
    rate.on_sent(at)


def send_accepted(rate: AimdRate, since: float, count: int) -> float:
    """Send requests at the current rate, all accepted. Returns when the last was sent."""
    at = since
    for _ in range(count):
        at += 60 / (rate.per_minute or 600)
        send(rate, at)
        rate.on_accepted(at)
    return at


def after_burst(sent: int = 100, sent_in_window: float = 100) -> AimdRate:
    """After a first burst whose second half was throttled, and the first request after the cool-down."""
    rate = AimdRate()
    for n in range(sent):
        send(rate, n / 1000)
    for n in range(sent // 2, sent):
        rate.on_throttled(n / 1000, 0.1, sent_in_window)
    send(rate, 1.2)
    return rate


def throttle_last(rate: AimdRate, at: float, sent_in_window: float = 100) -> None:
    """The last request, sent at this time, is throttled, and another one is sent after the cool-down."""
    rate.on_throttled(at, at + 0.05, sent_in_window)
    send(rate, at + 1.2)


def after_full_window(sent_in_window: float = 100) -> AimdRate:
    """After a burst and three episodes in which no request was accepted."""
    rate, at = after_burst(sent_in_window=sent_in_window), 1.2
    for _ in range(3):
        throttle_last(rate, at, sent_in_window)
        at += 1.2
    return rate


def test_no_rate_is_set_before_the_first_429() -> None:
    rate = AimdRate()
    send_accepted(rate, 0.0, 100)
    assert rate.per_minute is None


def test_first_rate_follows_from_what_was_sent_before_a_throttled_burst() -> None:
    assert after_burst(sent_in_window=100).per_minute == pytest.approx(540)


def test_few_429s_among_many_accepted_requests_count_as_random() -> None:
    rate = AimdRate()
    for n in range(100):
        send(rate, n / 1000)
    rate.on_throttled(0.05, 0.1, 100.0)
    rate.on_throttled(0.07, 0.1, 100.0)
    send(rate, 1.2)
    assert rate.per_minute is None


def test_short_episode_is_judged_together_with_those_before_it() -> None:
    """One job is refused again and again, each time beside seven others that are accepted."""
    rate = AimdRate()
    at = send_accepted(rate, 0.0, 100)
    for _ in range(2):
        rate.on_throttled(at, at + 0.05, 100.0)
        at += 1.2
        for _ in range(8):
            send(rate, at)
    assert rate.per_minute is None


def test_several_episodes_without_an_accepted_request_mean_that_a_window_is_full() -> None:
    assert after_full_window(100).per_minute == 100


def test_429_after_accepted_requests_lowers_the_rate_by_a_little() -> None:
    rate = after_full_window()
    at = send_accepted(rate, 4.9, 20)
    send(rate, at + 0.6)
    throttle_last(rate, at + 0.6)
    assert rate.per_minute is not None
    assert 80 < rate.per_minute < 95


def test_429s_that_go_on_while_the_rate_falls_count_as_random() -> None:
    rate, at, slowest = after_full_window(), 4.9, 1e9
    for _ in range(40):
        at = send_accepted(rate, at, 20)
        send(rate, at + 0.6)
        throttle_last(rate, at + 0.6)
        slowest = min(slowest, rate.per_minute or 0)
        at += 1.8
    assert slowest > 30
    assert (rate.per_minute or 0) > 1000


def exhaust(rate: AimdRate, since: float, sent: int) -> float:
    """An episode at a tenth of a second a request, whose second half is throttled. Returns when the next one begins."""
    times = [since + n / 10 for n in range(sent)]
    for at in times:
        send(rate, at)
    for at in times[sent // 2 :]:
        rate.on_throttled(at, times[-1] + 0.05, sent)
    return times[-1] + 1.2


def test_refusals_below_a_rate_that_the_server_has_allowed_count_as_random() -> None:
    rate, at = after_burst(), 1.3
    for _ in range(2):  # 300 a minute come through, pauses counted
        at = exhaust(rate, at, 60)
    send(rate, at)
    slowest, throttled = rate.per_minute or 0, 0
    while (rate.per_minute or 0) < 10_000:
        at = send_accepted(rate, at, 40)
        send(rate, at + 0.1)
        throttle_last(rate, at + 0.1)
        slowest, throttled, at = min(slowest, rate.per_minute or 0), throttled + 1, at + 1.3
    assert slowest > 150
    assert throttled <= 5


def test_refusing_most_after_a_pause_counts_as_random_where_more_has_been_allowed_in_such_a_time() -> None:
    rate, at = after_burst(), 1.3
    for _ in range(2):  # 300 a minute come through, pauses counted
        at = exhaust(rate, at, 60)
    for _ in range(2):  # a limit of 300 a minute has room for five requests after a pause
        send(rate, at)
        send(rate, at + 0.1)
        rate.on_throttled(at + 0.1, at + 0.15, 100)
        at += 1.3
    send(rate, at)
    at = send_accepted(rate, at, 40)
    assert (rate.per_minute or 0) > 1000


def test_few_requests_are_sent_after_random_429s_until_one_is_accepted() -> None:
    rate = AimdRate()
    for n in range(100):
        send(rate, n / 100)
    rate.on_throttled(0.5, 0.6, 100)
    send(rate, 2.0)
    assert rate.resumes_at <= 2.0
    for _ in range(3):
        send(rate, 2.0)
    assert rate.resumes_at == pytest.approx(2.1)
    for _ in range(4):
        send(rate, 2.1)
    assert rate.resumes_at == pytest.approx(2.2)
    rate.on_accepted(2.0)
    assert rate.resumes_at < 2.0


def test_full_window_is_the_least_that_any_of_its_429s_shows() -> None:
    """When the first 429 comes, it is not known yet that others are throttled, too."""
    rate = after_burst()
    for _ in range(10):
        rate.on_sent(1.2)
    for known in range(11):
        rate.on_throttled(1.2, 1.3, 60 - known)
    send(rate, 2.5)
    assert rate.per_minute == rate.full_window.content == 50
    assert rate.full_window.until == 61.3


def test_window_holds_nobody_back_where_the_server_names_the_wait() -> None:
    rate = after_burst()
    rate.on_sent(1.2)
    for _ in range(2):
        rate.on_throttled(1.2, 1.3, 50, is_wait_named=True)
    assert rate.throttled_until < 0
    send(rate, 2.5)
    assert rate.per_minute == 50
    assert rate.full_window.until < 0


def test_late_responses_to_requests_before_the_last_episode_do_not_raise_the_rate() -> None:
    rate = after_burst()
    first = rate.per_minute
    for _ in range(100):
        rate.on_accepted(0.0)
    assert rate.per_minute == first


def test_rate_grows_faster_the_longer_no_request_is_throttled() -> None:
    rate = after_full_window()
    send_accepted(rate, 5.0, 100)
    first = (rate.per_minute or 0) - 100
    send_accepted(rate, 73.0, 100)
    second = (rate.per_minute or 0) - 100 - first
    assert 2.5 < first < 5
    assert second > 1.5 * first


@pytest.mark.parametrize("limit", [30, 300, 3000])
def test_rate_converges_to_the_limit_of_a_bucket_of_one_second(limit: int) -> None:
    rate, at, level, throttled, accepted = after_burst(5, sent_in_window=5), 1.2, 1.0, 0, 0
    capacity, last = limit / 60 + 1, 1.2
    while at < 1200:
        at += 60 / (rate.per_minute or limit)
        level, last = min(capacity, level + (at - last) * limit / 60), at
        send(rate, at)
        if level >= 1:
            level -= 1
            accepted += at > 600
            rate.on_accepted(at)
        else:
            throttled += at > 600
            rate.on_throttled(at, at + 0.05, limit)
            at += 1.1
    assert 0.8 * limit * 10 <= accepted
    assert throttled <= 0.02 * accepted + 5


@given(st.lists(st.tuples(st.sampled_from(["sent", "accepted", "throttled"]), st.floats(0, 5)), max_size=300))
def test_rate_is_positive_and_finite_after_any_sequence_of_events(steps: list[tuple[str, float]]) -> None:
    rate, at = AimdRate(), 0.0
    for step, pause_s in steps:
        at += pause_s
        if step == "throttled":
            rate.on_throttled(at, at + 0.1, at % 7)
        elif step == "sent":
            rate.on_sent(at)
        else:
            rate.on_accepted(at)
        assert rate.per_minute is None or (isfinite(rate.per_minute) and rate.per_minute > 0)


def test_rate_has_an_upper_bound() -> None:
    rate = after_burst()
    for at in range(2, 10_000):
        rate.on_accepted(float(at))
    assert rate.per_minute == UNLIMITED
