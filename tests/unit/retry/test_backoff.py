"""The schedule of attempts: their number, and waits drawn evenly below a bound that doubles with each failure."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from processor.retry.backoff import Backoff, RetrySchedule


def schedule(*, max_attempts: int = 6, **backoff: float) -> RetrySchedule:
    return RetrySchedule(max_attempts, Backoff(**backoff))


@given(st.integers(0, 3000), st.floats(0.001, 100), st.floats(1, 100))
def test_backoff_lies_within_its_bounds(failures: int, min_s: float, factor: float) -> None:
    wait_s = schedule(min_s=min_s, max_s=min_s * factor).wait_s(failures)
    assert min_s <= wait_s <= max(min_s * factor, min_s) * (1 + 1e-9)


def test_backoff_bound_doubles_with_each_failure_up_to_the_maximum() -> None:
    backoff = schedule()
    longest = [max(backoff.wait_s(failures) for _ in range(400)) for failures in range(1, 9)]
    for bound, found in zip([2, 4, 8, 16, 32, 60, 60, 60], longest, strict=True):
        assert 0.9 * bound < found <= bound


def test_first_backoffs_differ_from_each_other() -> None:
    assert len({schedule().wait_s(1) for _ in range(20)}) > 10


def test_backoffs_are_replayed_by_the_same_seed() -> None:
    def draws() -> list[float]:
        random.seed(17)
        return [schedule().wait_s(failures) for failures in range(1, 7)]

    assert draws() == draws()


@given(st.integers(1, 50), st.integers(0, 60))
def test_schedule_is_exhausted_after_the_last_attempt(max_attempts: int, failures: int) -> None:
    assert schedule(max_attempts=max_attempts).is_exhausted(failures) == (failures >= max_attempts)
