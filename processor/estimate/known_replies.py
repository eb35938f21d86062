"""What the replies of an earlier run tell about those to come: how long they are, and how long they take."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
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

    def __init__(self, rows: Sequence[RowFacts]) -> None:
        """``rows``: at least one, all with the tokens of a reply."""
        self.tokens = sorted(row.used.completion_tokens for row in rows if row.used is not None)
        self.total_s = sorted(row.total_s for row in rows if row.total_s is not None)
        self.first_token_s = sorted(row.first_token_s for row in rows if row.first_token_s is not None)
        self._sums = list(accumulate(self.tokens, initial=0))
        timed = [(row.used.completion_tokens, row.total_s) for row in rows if row.used and row.total_s is not None]
        self._s_per_token = _slope(timed)

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

    def expected_s(self, at_most: int | None) -> float | None:
        """The mean time of replies that may have so many tokens: shorter ones take less, as far as the times show."""
        if self.mean_s is None:
            return None
        fewer_tokens = self.mean_tokens(None) - self.mean_tokens(at_most)
        shortest_s = self.first_token_s[0] if self.first_token_s else 0.0
        return max(self.mean_s - fewer_tokens * self._s_per_token, shortest_s)

    @property
    def first_response_s(self) -> float | None:
        """The mean time to the first token; to the end where no reply was streamed."""
        return sum(self.first_token_s) / len(self.first_token_s) if self.first_token_s else self.mean_s

    def tail_s(self, in_flight: int) -> float:
        """How much longer than the mean of the replies in flight the last of them takes: they are interrupted at a
        random moment, and have so long still to go."""
        if not self.total_s or in_flight < 2:
            return 0.0
        # The rest of a reply is at most x with the chance G(x), which grows by (1 - F(x)) / mean, F that of its length.
        mean_s, count = sum(self.total_s) / len(self.total_s), len(self.total_s)
        longest_s = mean_rest_s = reached = before_s = 0.0
        for at, total_s in enumerate(self.total_s):
            step_s = total_s - before_s
            share = step_s * (1 - at / count) / mean_s if mean_s else 0.0
            if share:
                power = in_flight + 1
                below = ((reached + share) ** power - reached**power) / (power * share)
                longest_s += step_s * (1 - below)
                mean_rest_s += step_s * (1 - reached - share / 2)
            reached, before_s = reached + share, total_s
        return longest_s - mean_rest_s

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
        self._all = ReplySample(rows) if self.count >= MIN_REPLIES else None
        self._by_model = {model: ReplySample(found) for model, found in by_model.items() if len(found) >= MIN_REPLIES}
        self.mean_tokens = lru_cache(maxsize=4096)(self._mean_tokens)
        self.expected_s = lru_cache(maxsize=4096)(self._expected_s)

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

    def of_others(self, models: Iterable[str]) -> list[str]:
        """Those of these models that have too few replies of their own, so that those of all models stand for them."""
        return [] if self._all is None else [model for model in models if model not in self._by_model]

    def of_model(self, model: str) -> ReplySample | None:
        """The replies of this model; of all where it has few; None without any."""
        return self._by_model.get(model, self._all)

    def _mean_tokens(self, model: str, at_most: int | None) -> float | None:
        sample = self.of_model(model)
        return None if sample is None else sample.mean_tokens(at_most)

    def _expected_s(self, model: str, at_most: int | None) -> float | None:
        sample = self.of_model(model)
        return None if sample is None else sample.expected_s(at_most)


def _slope(pairs: Sequence[tuple[int, float]]) -> float:
    """The seconds that a further token takes, by least squares; 0 where the lengths do not differ, or say nothing."""
    if not pairs:
        return 0.0
    mean_tokens, mean_s = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    together = sum((tokens - mean_tokens) * (total_s - mean_s) for tokens, total_s in pairs)
    squares = sum((tokens - mean_tokens) ** 2 for tokens, _ in pairs)
    return max(together / squares, 0.0) if squares else 0.0


def _read(path: Path) -> Iterator[RowFacts]:
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            if number == MAX_REPLIES:
                return
            if (facts := facts_of(parsed(line))) is not None:
                yield facts
