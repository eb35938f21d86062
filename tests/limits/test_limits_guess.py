from __future__ import annotations

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.limits.guess import Guess


def paced(guess: Guess, since: float, count: int) -> float:
    """So many requests at the guessed pace, all answered. Returns when the last went."""
    at = since
    for _ in range(count):
        at += 60 / (guess.per_minute or 600)
        guess.sent(at)
        guess.answered(at)
    return at


def refused(sent: int = 100, held: float = 100) -> Guess:
    """After a first burst."""
    guess = Guess()
    for _ in range(sent):
        guess.sent(0.0)
    guess.refused(0.01, held)
    return guess


def test_nothing_is_guessed_before_a_refusal() -> None:
    guess = Guess()
    paced(guess, 0.0, 100)
    assert guess.per_minute is None


def test_a_second_refusal_with_nothing_answered_means_that_a_window_is_full() -> None:
    guess = refused(held=100)
    guess.refused(1.2, 100)
    assert guess.per_minute == 100


def test_a_refusal_after_answers_means_the_last_pace_was_too_much() -> None:
    guess = refused(held=100)
    guess.refused(1.2, 100)
    at = paced(guess, 60.0, 20)
    guess.refused(at + 0.6, 100)
    assert guess.per_minute is not None
    assert 85 < guess.per_minute < 95


def test_late_answers_to_what_went_before_raise_nothing() -> None:
    guess = refused()
    first = guess.per_minute
    for _ in range(100):
        guess.answered(0.0)
    assert guess.per_minute == first


def test_it_grows_the_faster_the_longer_nothing_is_refused() -> None:
    guess = refused(held=100)
    guess.refused(1.2, 100)
    paced(guess, 2.0, 100)
    first = (guess.per_minute or 0) - 100
    paced(guess, 70.0, 100)
    second = (guess.per_minute or 0) - 100 - first
    assert 5 < first < second


@pytest.mark.parametrize("bears", [30, 300, 3000])
def test_it_finds_what_the_server_bears(bears: int) -> None:
    """A bucket of one second."""
    guess, at, level, refusals, admitted = refused(5, held=5), 1.0, 1.0, 0, 0
    room, last = bears / 60 + 1, 1.0
    while at < 1200:
        at += 60 / (guess.per_minute or bears)
        level, last = min(room, level + (at - last) * bears / 60), at
        guess.sent(at)
        if level >= 1:
            level -= 1
            admitted += at > 600
            guess.answered(at)
        else:
            refusals += at > 600
            guess.refused(at, bears)
            at += 1.1
    assert 0.8 * bears * 10 <= admitted
    assert refusals <= 0.02 * admitted + 5


@given(st.lists(st.tuples(st.sampled_from(["sent", "answered", "refused"]), st.floats(0, 5)), max_size=300))
def test_whatever_happens_it_is_a_pace(steps: list[tuple[str, float]]) -> None:
    guess, at = Guess(), 0.0
    for step, pause_s in steps:
        at += pause_s
        if step == "refused":
            guess.refused(at, at % 7)
        else:
            getattr(guess, step)(at)
        assert guess.per_minute is None or (isfinite(guess.per_minute) and guess.per_minute > 0)


def test_ten_thousand_answers_do_not_make_it_endless() -> None:
    guess = refused()
    for at in range(1, 10_000):
        guess.answered(float(at))
    assert guess.per_minute == 1e6
