"""The ledger beside a plain one that keeps every request and adds them up anew each time."""

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


def kept(history: list[tuple[float, int]]) -> SendHistory:
    ledger = SendHistory(LIMIT)
    for at, amount in history:
        ledger.add(at, amount)
    return ledger


def between(history: list[tuple[float, int]], after: float, until: float) -> int:
    return sum(amount for at, amount in history if after < at <= until)


@given(histories, st.floats(0, 130))
def test_a_window_holds_no_less_than_what_was_sent_and_little_more(
    history: list[tuple[float, int]], later: float
) -> None:
    now = history[-1][0] + later
    held = kept(history).in_window(now)
    assert held >= between(history, now - WINDOW_S, now)
    assert held <= between(history, now - WINDOW_S - ORDER_CERTAIN_S - MERGE_S, now)


@given(histories, st.integers(1, 400))
def test_room_is_there_when_it_is_foretold_and_not_before(history: list[tuple[float, int]], amount: int) -> None:
    ledger, now = kept(history), history[-1][0]
    held = ledger.in_window(now)
    at = ledger.window_frees_at(amount, now)
    if at == inf:
        assert amount > held
    else:
        assert ledger.in_window(at + 1e-6) <= held - amount
        assert ledger.in_window(at - 1e-3) > held - amount or at - 1e-3 < now


def test_nothing_to_wait_for_is_now() -> None:
    assert SendHistory(LIMIT).window_frees_at(0, 17.0) == 17.0


@given(histories, st.floats(0, 130))
def test_a_bucket_holds_what_a_plain_one_does(history: list[tuple[float, int]], later: float) -> None:
    level, before = LIMIT, 0.0
    for at, amount in [*history, (history[-1][0] + later, 0)]:
        level, before = min(LIMIT, level + (at - before) * LIMIT / WINDOW_S) - amount, at
    # Requests within a grain are one: what would have been refilled in between may be missing.
    grains = sum(b - a < MERGE_S for (a, _), (b, _) in pairwise(history)) + 1
    assert kept(history).level(before) == pytest.approx(level, abs=grains * MERGE_S * LIMIT / WINDOW_S + 1e-6)


@given(histories, st.floats(1, LIMIT))
def test_a_level_is_reached_when_it_is_foretold(history: list[tuple[float, int]], level: float) -> None:
    ledger = kept(history)
    at = ledger.level_reached_at(level)
    assert ledger.level(at + 1e-6) >= level - 1e-3


@given(histories, st.data())
def test_what_was_sent_around_a_moment_is_between_what_was_before_and_after(
    history: list[tuple[float, int]], data: st.DataObject
) -> None:
    at = data.draw(st.sampled_from([at for at, _ in history]))
    before, by, after = kept(history).bounds(at)
    assert before <= by <= after
    assert before <= between(history, -1, at - ORDER_CERTAIN_S + MERGE_S)
    assert after >= between(history, -1, at + ORDER_CERTAIN_S - MERGE_S)


@given(histories, st.data(), st.integers(-50, 50))
def test_a_correction_is_as_if_it_had_cost_that_much(
    history: list[tuple[float, int]], data: st.DataObject, amount: int
) -> None:
    which = data.draw(st.integers(0, len(history) - 1))
    sent_at, now = history[which][0], history[-1][0]
    ledger = kept(history)
    total = ledger.total
    ledger.correct(sent_at, amount)
    assert ledger.total == total + amount
    assert ledger.total_sent_by(now) == total + amount
    assert ledger.level(now) <= LIMIT


def test_what_is_no_longer_known_is_not_corrected() -> None:
    ledger = kept([(10.0, 5)])
    ledger.correct(2.0, 3)
    assert ledger.total == 5


def test_a_new_limit_begins_with_a_full_bucket() -> None:
    ledger = kept([(0.0, 100), (10.0, 100)])
    ledger.set_limit(600.0, since=5.0)
    assert ledger.level(10.0) == 500
    ledger.set_limit(60.0, since=20.0)
    assert ledger.level(20.0) == 60


def test_what_is_two_minutes_old_is_forgotten() -> None:
    ledger = kept([(n * 0.1, 1) for n in range(20 * KEPT_ENTRIES)])
    assert len(ledger._times) < 2 * KEPT_ENTRIES
    assert ledger.total == 20 * KEPT_ENTRIES
    now = 0.1 * (20 * KEPT_ENTRIES - 1)
    assert ledger.in_window(now) == pytest.approx(601, abs=2)
    ledger.add(now, 1)
    assert ledger.total_sent_by(0.0) < ledger.total
