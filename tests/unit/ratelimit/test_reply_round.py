from __future__ import annotations

import pytest

from processor.ratelimit.strategies.reply_round import ReplyRound


def test_latency_counts_replies_to_what_was_sent_in_the_round_only() -> None:
    round_ = ReplyRound(10.0)
    round_.add(sent_at=9.0, at=12.0, tokens=1, is_saturated=True)
    round_.add(sent_at=10.0, at=12.0, tokens=10, is_saturated=True)
    round_.add(sent_at=11.0, at=15.0, tokens=20, is_saturated=False)
    assert round_.replies == 2
    assert round_.latency_s == pytest.approx(6 / 30)
    assert round_.mean_reply_s == pytest.approx(3.0)
    assert not round_.is_saturated


def test_window_counts_all_replies_of_one_reply_time() -> None:
    round_ = ReplyRound(0.0, window_from_s=1.0, reply_s=2.0, min_window_replies=2)
    for at in (0.9, 1.0, 1.5, 2.9, 3.0):
        assert round_.has_window_ended(at) is (at == 3.0)
        round_.add(sent_at=0.0, at=at, tokens=10, is_saturated=True)
    throughput = round_.throughput_in_window(3)
    assert throughput.delivered == pytest.approx(30 / 2.0)
    assert throughput.by_latency == pytest.approx(3 * 50 / (0.9 + 1.0 + 1.5 + 2.9 + 3.0))


def test_window_lasts_several_reply_times_where_few_replies_come() -> None:
    round_ = ReplyRound(0.0, window_from_s=1.0, reply_s=2.0, min_window_replies=3)
    for at in (1.0, 4.0, 6.5, 7.5):
        round_.add(sent_at=0.0, at=at, tokens=10, is_saturated=True)
    assert round_.has_window_ended(7.5)
    assert round_.throughput_in_window(3).delivered == pytest.approx(30 / 6.0)


@pytest.mark.parametrize(("limit", "delivered"), [(100, 75 * 10), (2, 2 * 10)])
def test_throughput_in_window_is_limited_by_what_the_latency_shows(limit: int, delivered: float) -> None:
    round_ = ReplyRound(0.0, window_from_s=0.5, reply_s=1.0)
    for _ in range(4):
        round_.add(sent_at=0.0, at=1.0, tokens=10, is_saturated=True)
    assert round_.throughput_in_window(limit).delivered == pytest.approx(delivered)
