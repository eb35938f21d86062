from __future__ import annotations

from random import Random

import pytest

from processor.ratelimit.strategies.reply_round import Measured, ReplyRound, ReplySize, Sums


def sums_of(replies: list[tuple[float, float]]) -> Sums:
    sums = Sums()
    for tokens, latency_s in replies:
        sums = sums.plus(tokens, latency_s)
    return sums


def test_latency_counts_replies_to_what_was_sent_in_the_round_only() -> None:
    round_ = ReplyRound(10.0)
    round_.add(sent_at=9.0, at=12.0, tokens=1, is_saturated=True)
    round_.add(sent_at=10.0, at=12.0, tokens=10, is_saturated=True)
    round_.add(sent_at=11.0, at=15.0, tokens=20, is_saturated=False)
    measured = round_.measured(5, in_window=False)
    assert round_.replies == 2
    assert measured.latency_s(0.0) == pytest.approx(6 / 30)
    assert measured.latency_s(5.0) == pytest.approx(6 / 40)
    assert measured.delivered(0.0) == measured.by_latency(0.0) == pytest.approx(5 * 30 / 6)
    assert not round_.is_saturated


def test_window_counts_all_replies_of_one_reply_time() -> None:
    round_ = ReplyRound(0.0, window_from_s=1.0, reply_s=2.0, min_window_replies=2)
    for at in (0.9, 1.0, 1.5, 2.9, 3.0):
        assert round_.has_window_ended(at) is (at == 3.0)
        round_.add(sent_at=0.0, at=at, tokens=10, is_saturated=True)
    measured = round_.measured(3, in_window=True)
    assert measured.delivered(0.0) == pytest.approx(30 / 2.0)
    assert measured.by_latency(0.0) == pytest.approx(3 * 50 / (0.9 + 1.0 + 1.5 + 2.9 + 3.0))


def test_window_lasts_several_reply_times_where_few_replies_come() -> None:
    round_ = ReplyRound(0.0, window_from_s=1.0, reply_s=2.0, min_window_replies=3)
    for at in (1.0, 4.0, 6.5, 7.5):
        round_.add(sent_at=0.0, at=at, tokens=10, is_saturated=True)
    assert round_.has_window_ended(7.5)
    assert round_.measured(3, in_window=True).delivered(0.0) == pytest.approx(30 / 6.0)


@pytest.mark.parametrize(("limit", "delivered"), [(100, 75 * 10), (2, 2 * 10)])
def test_throughput_in_window_is_limited_by_what_the_latency_shows(limit: int, delivered: float) -> None:
    replies = sums_of([(10, 1.0)] * 4)
    assert Measured(limit, replies, window=replies, window_s=1.0).delivered(0.0) == pytest.approx(delivered)


@pytest.mark.parametrize(
    ("first_token_s", "per_token_s", "expected"), [(0.0, 0.02, 0.0), (2.0, 0.02, 100.0), (2.0, 0.0, 22_500.0)]
)
def test_fixed_part_of_a_reply_is_what_the_time_until_the_first_token_is_worth(
    first_token_s: float, per_token_s: float, expected: float
) -> None:
    size, rng = ReplySize(), Random(1)
    for busy in (1.0, 1.1, 1.5, 3.0):
        lengths = [rng.uniform(50, 400) for _ in range(100)]
        size.add(sums_of([(tokens, busy * (first_token_s + per_token_s * tokens)) for tokens in lengths]))
    assert size.fixed_part == pytest.approx(expected, rel=0.1, abs=5)


def test_fixed_part_is_nothing_where_all_replies_are_as_long() -> None:
    size = ReplySize()
    size.add(sums_of([(100, 1.0), (100, 1.2), (100, 0.9)]))
    assert size.fixed_part == 0.0
