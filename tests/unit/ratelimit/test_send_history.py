"""Compares the send history with a plain list of requests that is added up again for each question."""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.ratelimit.estimator.send_history import KEPT_ENTRIES, MERGE_S, ORDER_CERTAIN_S, WINDOW_S, SendHistory

LIMIT = 300.0

gaps = st.sampled_from([0.0, 0.001, 0.004, 0.01, 0.2, 7.0, 59.9, 60.2]) | st.floats(0, 20)
histories = st.lists(st.tuples(gaps, st.integers(0, 100)), min_size=1, max_size=40).map(
    lambda steps: list(zip(accumulate(gap for gap, _ in steps), (amount for _, amount in steps), strict=True))
)


def recorded(history: list[tuple[float, int]]) -> SendHistory:
    sent = SendHistory(LIMIT)
    for at, amount in history:
        sent.add(at, amount)
    return sent


def between(history: list[tuple[float, int]], after: float, until: float) -> int:
    return sum(amount for at, amount in history if after < at <= until)


@given(histories, st.floats(0, 130))
def test_window_holds_what_was_sent_within_a_minute_and_little_more(
    history: list[tuple[float, int]], later: float
) -> None:
    now = history[-1][0] + later
    held = recorded(history).in_window(now)
    assert held >= between(history, now - WINDOW_S, now)
    assert held <= between(history, now - WINDOW_S - ORDER_CERTAIN_S - MERGE_S, now)


@given(histories, st.integers(1, 400))
def test_window_frees_the_amount_at_the_predicted_time(history: list[tuple[float, int]], amount: int) -> None:
    sent, now = recorded(history), history[-1][0]
    held = sent.in_window(now)
    at = sent.window_frees_at(amount, now)
    if at == inf:
        assert amount > held
    else:
        assert sent.in_window(at + 1e-6) <= held - amount
        assert sent.in_window(at - 1e-3) > held - amount or at - 1e-3 < now


def test_window_frees_nothing_at_once() -> None:
    assert SendHistory(LIMIT).window_frees_at(0, 17.0) == 17.0


@given(histories, st.floats(0, 130))
def test_bucket_level_equals_that_of_a_plain_bucket(history: list[tuple[float, int]], later: float) -> None:
    level, before = LIMIT, 0.0
    for at, amount in [*history, (history[-1][0] + later, 0)]:
        level, before = min(LIMIT, level + (at - before) * LIMIT / WINDOW_S) - amount, at
    # Requests within MERGE_S are one entry: what would have been refilled in between may be missing.
    grains = sum(b - a < MERGE_S for (a, _), (b, _) in pairwise(history)) + 1
    assert recorded(history).level(before) == pytest.approx(level, abs=grains * MERGE_S * LIMIT / WINDOW_S + 1e-6)


@given(histories, st.floats(1, LIMIT))
def test_bucket_level_is_reached_at_the_predicted_time(history: list[tuple[float, int]], level: float) -> None:
    sent = recorded(history)
    at = sent.level_reached_at(level)
    assert sent.level(at + 1e-6) >= level - 1e-3


@given(histories, st.data())
def test_bounds_enclose_what_was_sent_by_a_time(history: list[tuple[float, int]], data: st.DataObject) -> None:
    at = data.draw(st.sampled_from([at for at, _ in history]))
    before, by, after = recorded(history).bounds(at)
    assert before <= by <= after
    assert before <= between(history, -1, at - ORDER_CERTAIN_S + MERGE_S)
    assert after >= between(history, -1, at + ORDER_CERTAIN_S - MERGE_S)


@given(histories, st.data(), st.integers(-50, 50))
def test_correction_changes_the_total_by_its_amount(
    history: list[tuple[float, int]], data: st.DataObject, amount: int
) -> None:
    which = data.draw(st.integers(0, len(history) - 1))
    sent_at, now = history[which][0], history[-1][0]
    sent = recorded(history)
    total = sent.total
    sent.correct(sent_at, amount, sent_at)
    assert sent.total == total + amount
    assert sent.total_sent_by(now) == total + amount
    assert sent.level(now) <= LIMIT


def test_correction_of_a_forgotten_entry_changes_nothing() -> None:
    sent = recorded([(10.0, 5)])
    sent.correct(2.0, 3, 2.0)
    assert sent.total == 5


def test_new_limit_begins_with_a_full_bucket() -> None:
    sent = recorded([(0.0, 100), (10.0, 100)])
    sent.set_limit(600.0, since=5.0)
    assert sent.level(10.0) == 500
    sent.set_limit(60.0, since=20.0)
    assert sent.level(20.0) == 60


def test_entries_older_than_two_minutes_are_dropped() -> None:
    sent = recorded([(n * 0.1, 1) for n in range(20 * KEPT_ENTRIES)])
    assert len(sent._times) < 2 * KEPT_ENTRIES
    assert sent.total == 20 * KEPT_ENTRIES
    now = 0.1 * (20 * KEPT_ENTRIES - 1)
    assert sent.in_window(now) == pytest.approx(601, abs=2)
    sent.add(now, 1)
    assert sent.total_sent_by(0.0) < sent.total
