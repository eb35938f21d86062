"""The choice of the cases that run every day."""

from __future__ import annotations

from itertools import product

import pytest

from tests.support.slow_cases import each_value_once, slow_except, some_of


def test_each_value_is_chosen_once_by_as_few_cases_as_the_longest_parameter_has_values() -> None:
    cases = [frozenset({("kind", a), ("mode", b), ("rate", c)}) for a, b, c in product(range(2), range(3), range(4))]
    chosen = [cases[number] for number in each_value_once(cases)]
    assert len(chosen) == 4
    assert frozenset().union(*chosen) == frozenset().union(*cases)


def test_tests_of_a_file_have_different_cases() -> None:
    for most in (1, 2, 3):
        assert {len(some_of([4, 7, 9], most, f"test_{number}")) for number in range(20)} == {most}
    assert {number for name in "abcdefghijkl" for number in some_of([4, 7, 9], 1, name)} == {4, 7, 9}
    assert some_of([4], 2, "a") == {4}


def test_case_that_is_not_named_is_slow() -> None:
    one, two = slow_except(["a", "b"], "b")
    assert ([mark.name for mark in one.marks], two) == (["slow"], "b")
    with pytest.raises(ValueError, match="no such cases"):
        slow_except(["a"], "c")
