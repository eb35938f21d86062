"""A page of a list of batches, as batch APIs give it: the newest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

_DEFAULT_LIMIT = 20


def page_of(
    ids: Iterable[str], query: Mapping[str, Sequence[str]], after_name: str, *, max_limit: int
) -> tuple[list[str], bool]:
    """Return the ids on the page that the query asks for, and whether more follow. ``ids``: the oldest first.

    ``after_name``: the parameter that names the last batch of the page before.
    """
    newest_first = list(ids)[::-1]
    if after := query.get(after_name):
        newest_first = newest_first[newest_first.index(after[0]) + 1 :] if after[0] in newest_first else []
    count = min(int(query.get("limit", [str(_DEFAULT_LIMIT)])[0]), max_limit)
    return newest_first[:count], len(newest_first) > count


def numbered_page_of(items: Sequence[T], query: Mapping[str, Sequence[str]]) -> list[T]:
    """Return the page with the number that the query asks for, from 0 on. ``items``: the oldest first."""
    number, size = (int(query.get(name, [default])[0]) for name, default in (("page", "0"), ("page_size", "100")))
    return list(items)[::-1][number * size : (number + 1) * size]
