"""How much work a check can be. What may be too much is done in another process, under a time limit. Pure.

Without recursion a check visits, for each value of the output, at most every part of the schema once for each way that
leads to it. A schema whose references branch can have exponentially many such ways, so that they are counted.
"""

from __future__ import annotations

import re
from typing import Any

MAX_SCHEMA_BYTES = 32_768
"""A larger schema takes more than a few milliseconds to be made ready."""
MAX_TEXT_BYTES = 32_768
"""A larger output can have so many faults that to find them takes more than a tenth of a second."""
MAX_WORK = 20_000_000
"""Parts of the schema, times bytes of the output. Most checks take a thousandth of what this allows."""
_MAX_DEPTH = 200
_UNKNOWN_REFERENCES = frozenset({"$dynamicRef", "$recursiveRef", "$id", "id", "$anchor", "$dynamicAnchor"})
_COSTLY_PATTERN = re.compile(r"\(\?(?!:)|\\[1-9k]|\{[0-9,]*[0-9]{3}")
"""Look-around and references back, which take time beyond the text's length, and large counts."""


class _Unbounded(Exception):
    """No bound is known."""


def count_parts(schema: Any) -> int | None:
    """Return how many parts of the schema can be visited for one value; None where no bound is known."""
    try:
        return _Parts(schema).count(schema, 0)
    except _Unbounded:
        return None


class _Parts:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._by_reference: dict[str, int | None] = {}
        """None while a reference is being followed: to meet it again is recursion."""

    def count(self, part: Any, depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise _Unbounded
        if isinstance(part, list):
            return 1 + sum(self.count(item, depth + 1) for item in part)
        if not isinstance(part, dict):
            return 1
        if not _UNKNOWN_REFERENCES.isdisjoint(part):
            raise _Unbounded
        parts = 1
        for name, value in part.items():
            if name == "$ref":
                parts += self._count_reference(value, depth)
            elif name == "pattern" or name == "patternProperties":
                _check_patterns([value] if name == "pattern" else value)
            if name not in ("$defs", "definitions", "$ref"):
                parts += self.count(value, depth + 1)
        return parts

    def _count_reference(self, reference: Any, depth: int) -> int:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise _Unbounded
        if reference not in self._by_reference:
            self._by_reference[reference] = None
            self._by_reference[reference] = self.count(self._target(reference), depth + 1)
        if (known := self._by_reference[reference]) is None:
            raise _Unbounded
        return known

    def _target(self, reference: str) -> Any:
        target = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or name not in target:
                raise _Unbounded
            target = target[name]
        return target


def _check_patterns(patterns: Any) -> None:
    if any(isinstance(pattern, str) and _COSTLY_PATTERN.search(pattern) for pattern in patterns or ()):
        raise _Unbounded
