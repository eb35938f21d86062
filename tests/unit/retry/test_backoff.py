"""The backoff: a wait drawn evenly below a bound that doubles with each failure."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from processor.retry.backoff import Backoff


@given(st.integers(0, 3000), st.floats(0.001, 100), st.floats(1, 100))
def test_backoff_lies_within_its_bounds(failures: int, min_s: float, factor: float) -> None:
    wait_s = Backoff(min_s=min_s, max_s=min_s * factor).wait_s(failures)
    assert min_s <= wait_s <= max(min_s * factor, min_s) * (1 + 1e-9)


def test_backoff_bound_doubles_with_each_failure_up_to_the_maximum() -> None:
    backoff = Backoff()
    longest = [max(backoff.wait_s(failures) for _ in range(400)) for failures in range(1, 9)]
    for bound, found in zip([2, 4, 8, 16, 32, 60, 60, 60], longest, strict=True):
        assert 0.9 * bound < found <= bound


def test_first_backoffs_differ_from_each_other() -> None:
    assert len({Backoff().wait_s(1) for _ in range(20)}) > 10


def test_backoffs_are_replayed_by_the_same_seed() -> None:
    def draws() -> list[float]:
        random.seed(17)
        return [Backoff().wait_s(failures) for failures in range(1, 7)]

    assert draws() == draws()
