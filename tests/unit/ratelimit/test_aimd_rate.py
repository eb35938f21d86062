from __future__ import annotations

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.ratelimit.strategies.aimd_rate import AimdRate


def send(guess: AimdRate, at: float) -> None:
    guess.judge(at)
    guess.sent(at)


def paced(guess: AimdRate, since: float, count: int) -> float:
    """So many requests at the guessed pace, all answered. Returns when the last went."""
    at = since
    for _ in range(count):
        at += 60 / (guess.per_minute or 600)
        send(guess, at)
        guess.answered(at)
    return at


def refused(sent: int = 100, held: float = 100) -> AimdRate:
    """After a first burst of which the second half was refused, and the first request that went after the pause."""
    guess = AimdRate()
    for n in range(sent):
        send(guess, n / 1000)
    for n in range(sent // 2, sent):
        guess.refused(n / 1000, 0.1, held)
    send(guess, 1.2)
    return guess


def refused_again(guess: AimdRate, at: float, held: float = 100) -> None:
    """What went last is refused, and another one goes after the pause."""
    guess.refused(at, at + 0.05, held)
    send(guess, at + 1.2)


def test_nothing_is_guessed_before_a_refusal() -> None:
    guess = AimdRate()
    paced(guess, 0.0, 100)
    assert guess.per_minute is None


def test_a_burst_whose_end_is_refused_shows_what_is_borne_at_most() -> None:
    assert refused(held=100).per_minute == pytest.approx(540)


def test_a_refusal_among_many_that_were_let_through_is_chance() -> None:
    guess = AimdRate()
    for n in range(100):
        send(guess, n / 1000)
    guess.refused(0.05, 0.1, 100.0)
    guess.refused(0.07, 0.1, 100.0)
    send(guess, 1.2)
    assert guess.per_minute is None


def full(held: float = 100) -> AimdRate:
    """After refusals with nothing let through in between."""
    guess, at = refused(held=held), 1.2
    for _ in range(3):
        refused_again(guess, at, held)
        at += 1.2
    return guess


def test_nothing_let_through_several_times_means_that_a_window_is_full() -> None:
    assert full(100).per_minute == 100


def test_a_refusal_after_answers_means_the_last_pace_was_too_much() -> None:
    guess = full()
    at = paced(guess, 4.9, 20)
    send(guess, at + 0.6)
    refused_again(guess, at + 0.6)
    assert guess.per_minute is not None
    assert 80 < guess.per_minute < 95


def test_refusals_that_go_on_though_the_pace_falls_are_chance() -> None:
    guess, at, slowest = full(), 4.9, 1e9
    for _ in range(40):
        at = paced(guess, at, 20)
        send(guess, at + 0.6)
        refused_again(guess, at + 0.6)
        slowest = min(slowest, guess.per_minute or 0)
        at += 1.8
    assert slowest > 30
    assert (guess.per_minute or 0) > 1000


def test_late_answers_to_what_went_before_raise_nothing() -> None:
    guess = refused()
    first = guess.per_minute
    for _ in range(100):
        guess.answered(0.0)
    assert guess.per_minute == first


def test_it_grows_the_faster_the_longer_nothing_is_refused() -> None:
    guess = full()
    paced(guess, 5.0, 100)
    first = (guess.per_minute or 0) - 100
    paced(guess, 73.0, 100)
    second = (guess.per_minute or 0) - 100 - first
    assert 5 < first < second


@pytest.mark.parametrize("bears", [30, 300, 3000])
def test_it_finds_what_the_server_bears(bears: int) -> None:
    """A bucket of one second."""
    guess, at, level, refusals, admitted = refused(5, held=5), 1.2, 1.0, 0, 0
    room, last = bears / 60 + 1, 1.2
    while at < 1200:
        at += 60 / (guess.per_minute or bears)
        level, last = min(room, level + (at - last) * bears / 60), at
        send(guess, at)
        if level >= 1:
            level -= 1
            admitted += at > 600
            guess.answered(at)
        else:
            refusals += at > 600
            guess.refused(at, at + 0.05, bears)
            at += 1.1
    assert 0.8 * bears * 10 <= admitted
    assert refusals <= 0.02 * admitted + 5


@given(st.lists(st.tuples(st.sampled_from(["sent", "answered", "refused"]), st.floats(0, 5)), max_size=300))
def test_whatever_happens_it_is_a_pace(steps: list[tuple[str, float]]) -> None:
    guess, at = AimdRate(), 0.0
    for step, pause_s in steps:
        at += pause_s
        if step == "refused":
            guess.refused(at, at + 0.1, at % 7)
        else:
            getattr(guess, step)(at)
        assert guess.per_minute is None or (isfinite(guess.per_minute) and guess.per_minute > 0)


def test_ten_thousand_answers_do_not_make_it_endless() -> None:
    guess = refused()
    for at in range(2, 10_000):
        guess.answered(float(at))
    assert guess.per_minute == 1e6
