"""Damaged and cut replies: no exception but the program's own, and no cut reply is kept.

``python -m tests.benchmarks.damaged_replies`` tries a million.
"""

from __future__ import annotations

import random

import pytest

from tests.support.mutations import read_cut, read_mutated


def test_damaged_reply_is_read_or_is_an_error_of_the_program() -> None:
    rng = random.Random(1)
    assert 100 < sum(read_mutated(rng) for _ in range(1500)) < 1000


def test_cut_reply_is_not_kept() -> None:
    rng = random.Random(2)
    assert 0 < sum(read_cut(rng) for _ in range(1500)) < 700, "some are cut behind their last token only"


@pytest.mark.slow
def test_many_damaged_replies_are_read_or_are_errors_of_the_program() -> None:
    rng = random.Random(3)
    for _ in range(60_000):
        read_mutated(rng)
    for _ in range(20_000):
        read_cut(rng)
