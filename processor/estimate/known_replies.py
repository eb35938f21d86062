"""What the replies of an earlier run tell about those to come: how long they are, and how long they take."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from processor.core.json_reading import parsed
from processor.report.row_facts import RowFacts, facts_of

MIN_REPLIES = 30
"""Fewer say too little about the others."""
MAX_REPLIES = 200_000
"""The first ones of a file that are read."""


class ReplySample:
    """Lengths in tokens and durations in seconds of replies."""

    def __init__(self, tokens: list[int], total_s: list[float], first_token_s: list[float]) -> None:
        self.tokens = sorted(tokens)
        self.total_s = sorted(total_s)
        self.first_token_s = sorted(first_token_s)
        self._sums = list(accumulate(self.tokens, initial=0))

    def mean_tokens(self, at_most: int | None) -> float:
        """The mean length of replies that may have so many tokens."""
        count = len(self.tokens)
        if at_most is None:
            return self._sums[-1] / count
        shorter = bisect_left(self.tokens, at_most)
        return (self._sums[shorter] + (count - shorter) * at_most) / count

    @property
    def mean_s(self) -> float | None:
        return sum(self.total_s) / len(self.total_s) if self.total_s else None

    def quantile_s(self, share: float) -> float | None:
        return self.total_s[min(int(share * len(self.total_s)), len(self.total_s) - 1)] if self.total_s else None


class KnownReplies:
    """The replies in a results file, by model. ``source`` is its name; None without replies to learn from."""

    def __init__(self, facts: Iterator[RowFacts], source: str | None = None) -> None:
        by_model: dict[str, list[RowFacts]] = {}
        for row in facts:
            if row.code is None and row.used is not None:
                by_model.setdefault(row.model, []).append(row)
        rows = [row for model in by_model.values() for row in model]
        self.count = len(rows)
        self.source = source if self.count >= MIN_REPLIES else None
        self._all = _sample(rows) if self.count >= MIN_REPLIES else None
        self._by_model = {model: _sample(found) for model, found in by_model.items() if len(found) >= MIN_REPLIES}
        self.mean_tokens = lru_cache(maxsize=4096)(self._mean_tokens)

    @classmethod
    def of_file(cls, path: Path) -> KnownReplies:
        """Read the rows. Raises OSError."""
        return cls(_read(path), str(path))

    @classmethod
    def none(cls) -> KnownReplies:
        return cls(iter(()))

    @property
    def all(self) -> ReplySample | None:
        return self._all

    def of_model(self, model: str) -> ReplySample | None:
        """The replies of this model; of all where it has few; None without any."""
        return self._by_model.get(model, self._all)

    def _mean_tokens(self, model: str, at_most: int | None) -> float | None:
        sample = self.of_model(model)
        return None if sample is None else sample.mean_tokens(at_most)


def _sample(rows: list[RowFacts]) -> ReplySample:
    return ReplySample(
        [row.used.completion_tokens for row in rows if row.used is not None],
        [row.total_s for row in rows if row.total_s is not None],
        [row.first_token_s for row in rows if row.first_token_s is not None],
    )


def _read(path: Path) -> Iterator[RowFacts]:
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            if number == MAX_REPLIES:
                return
            if (facts := facts_of(parsed(line))) is not None:
                yield facts
