"""Chooses which cases of a parametrised test run every day; the others run with the long campaigns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

import pytest

Case = frozenset[tuple[str, int]]
"""The values of a case: the name of each parameter and the identity of its value."""


def slow_except(values: Iterable[Any], *everyday: object) -> list[Any]:
    """The values for ``parametrize``, with the ``slow`` marker on all that are not named. Raises ValueError."""
    chosen = list(values)
    if unknown := [value for value in everyday if value not in chosen]:
        raise ValueError(f"no such cases: {unknown}")
    return [value if value in everyday else pytest.param(value, marks=pytest.mark.slow) for value in chosen]


def mark_sampled(items: Iterable[pytest.Item]) -> None:
    """Of each test with the marker ``sampled``, leave every day as few cases as have each value of each parameter once;
    the others are slow. Cases that are slow already do not count. ``sampled(most=2)`` leaves at most two of them."""
    by_test: dict[tuple[Any, str], list[pytest.Function]] = defaultdict(list)
    for item in items:
        if not isinstance(item, pytest.Function) or not hasattr(item, "callspec") or item.get_closest_marker("slow"):
            continue
        if item.get_closest_marker("sampled"):
            by_test[item.parent, item.originalname].append(item)
    for (_, name), cases in by_test.items():
        chosen = each_value_once(
            [frozenset((name, id(value)) for name, value in case.callspec.params.items()) for case in cases]
        )
        marker = cases[0].get_closest_marker("sampled")
        if marker and "most" in marker.kwargs:
            chosen = some_of(chosen, marker.kwargs["most"], name)
        for number, case in enumerate(cases):
            if number not in chosen:
                case.add_marker(pytest.mark.slow)


def some_of(numbers: Iterable[int], most: int, name: str) -> set[int]:
    """Return at most ``most`` of the numbers, starting at a place that depends on ``name``.

    Tests of different names get different numbers, so that the tests of a file together run all cases.
    """
    ordered = sorted(numbers)
    first = crc32(name.encode())
    return {ordered[(first + at) % len(ordered)] for at in range(min(most, len(ordered)))}


def each_value_once(cases: Sequence[Case]) -> set[int]:
    """The numbers of cases that together have all values: always the first of those that have the most new ones."""
    missing = set().union(*cases)
    chosen: set[int] = set()
    while missing:
        number = max(range(len(cases)), key=lambda at: len(cases[at] & missing))
        chosen.add(number)
        missing -= cases[number]
    return chosen
