"""Chooses which cases of a parametrised test run every day; the others run with the long campaigns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_except(values: Iterable[Any], *everyday: object) -> list[Any]:
    """The values for ``parametrize``, with the ``slow`` marker on all that are not named. Raises ValueError."""
    chosen = list(values)
    if unknown := [value for value in everyday if value not in chosen]:
        raise ValueError(f"no such cases: {unknown}")
    return [value if value in everyday else pytest.param(value, marks=pytest.mark.slow) for value in chosen]
