"""The counts over many rows. Counts of parts of a file can be merged, so that two processes share the work. Pure."""

from __future__ import annotations

from collections import Counter
from heapq import heappush, heappushpop
from math import floor, log

from processor.core.job_keys import job_key
from processor.core.money import pico_usd, usd
from processor.report.distribution import Distribution
from processor.report.row_facts import RowFacts
from processor.report.time_buckets import TimeBuckets
from processor.stats.reply_stats import MAX_LABELS, bounded_label

MAX_LISTED_FAILURES = 2000
MAX_LARGEST = 50
SAMPLE_SIZE = 500

LATENCY_GROWTH = 1.1
"""Percentiles over time are exact to 5 %."""
_LOG_GROWTH = log(LATENCY_GROWTH)


def latency_class(seconds: float) -> int:
    """The class in which a duration is counted over time."""
    return floor(log(max(seconds, 1e-4)) / _LOG_GROWTH)


class ModelCounts:
    """The sums over the jobs of one model at one endpoint."""

    def __init__(self) -> None:
        self.replies = self.failed = 0
        self.prompt_tokens = self.completion_tokens = 0
        self.reported = self.reported_tokens = self.computed_beside_reported = 0
        """Replies whose usage the server reported; their tokens by its count, and by ours."""
        self.cost_pico_usd = 0
        self.unknown_cost = 0
        """Replies whose cost is not known."""
        self.first_token = Distribution()
        self.total = Distribution()
        self.tokens_per_s = Distribution()

    @property
    def cost_usd(self) -> float | None:
        """The known part; None where nothing is known."""
        return None if self.unknown_cost == self.replies else usd(self.cost_pico_usd)

    def add_reply(self, row: RowFacts) -> None:
        self.replies += 1
        if (used := row.used) is not None:
            self.prompt_tokens += used.prompt_tokens
            self.completion_tokens += used.completion_tokens
            if row.is_reported and row.computed is not None:
                self.reported += 1
                self.reported_tokens += used.total_tokens
                self.computed_beside_reported += row.computed.total_tokens
        if row.cost_usd is None:
            self.unknown_cost += 1
        else:
            self.cost_pico_usd += pico_usd(row.cost_usd)
        if row.total_s is not None:
            self.total.add(row.total_s)
            if row.first_token_s is not None:
                self.first_token.add(row.first_token_s)
                seconds = row.total_s - row.first_token_s
                if used is not None and used.completion_tokens > 1 and seconds > 0:
                    self.tokens_per_s.add((used.completion_tokens - 1) / seconds)

    def merge(self, other: ModelCounts) -> None:
        for name, value in vars(other).items():
            if isinstance(value, Distribution):
                getattr(self, name).merge(value)
            else:
                setattr(self, name, getattr(self, name) + value)


class Largest:
    """The rows with the largest values of one quantity, at most ``size`` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[float, bytes, RowFacts]] = []

    def add(self, value: float, key: bytes, row: RowFacts) -> None:
        """``key`` differs from row to row: of equal values its order decides, and rows cannot be compared."""
        if len(self._heap) < self._size:
            heappush(self._heap, (value, key, row))
        elif value >= self._heap[0][0]:
            heappushpop(self._heap, (value, key, row))

    def merge(self, other: Largest) -> None:
        for entry in other._heap:
            self.add(*entry)

    def rows(self) -> list[RowFacts]:
        """The largest one first."""
        return [row for _, _, row in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


class RowCounts:
    def __init__(self, sample_size: int = SAMPLE_SIZE) -> None:
        self.replies = self.failed = self.simulated = 0
        self.damaged = 0
        """Lines that are no rows."""
        self.superseded = 0
        """Rows of jobs that have a newer row, or a reply."""
        self.attempts = self.jobs_with_retries = 0
        self.first_start: float | None = None
        self.last_end: float | None = None
        self.unconfirmed_cost_pico_usd = 0
        self.by_model: dict[tuple[str, str], ModelCounts] = {}
        """By model and endpoint."""
        self.failures_by_code: Counter[str] = Counter()
        self.permanent_failures = 0
        self.listed_failures: list[RowFacts] = []
        self.prompt_tokens = Distribution()
        self.completion_tokens = Distribution()
        self.slowest = Largest(MAX_LARGEST)
        self.longest = Largest(MAX_LARGEST)
        self.most_expensive = Largest(MAX_LARGEST)
        self.sample = Largest(sample_size)
        """Replies whose keys have the largest hashes: drawn at random, and the same ones each time."""
        self.time = TimeBuckets()

    @property
    def rows(self) -> int:
        return self.replies + self.failed

    @property
    def cost_usd(self) -> float | None:
        """The known part of the cost of all replies; None where nothing is known."""
        known = [counts.cost_pico_usd for counts in self.by_model.values() if counts.cost_usd is not None]
        return usd(sum(known)) if known else None

    def add(self, row: RowFacts) -> None:
        self.attempts += row.attempts
        self.jobs_with_retries += row.attempts > 1
        self.simulated += row.is_simulated
        if row.unconfirmed_cost_usd is not None:
            self.unconfirmed_cost_pico_usd += pico_usd(row.unconfirmed_cost_usd)
        if row.code is None:
            self._add_reply(row)
        else:
            self._add_failure(row, row.code)
        self._add_to_time(row)

    def merge(self, other: RowCounts) -> None:
        """Add the counts of other rows."""
        for name in ("replies", "failed", "simulated", "damaged", "superseded", "attempts", "jobs_with_retries"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.permanent_failures += other.permanent_failures
        self.unconfirmed_cost_pico_usd += other.unconfirmed_cost_pico_usd
        self.first_start = min(self._known(self.first_start, other.first_start), default=None)
        self.last_end = max(self._known(self.last_end, other.last_end), default=None)
        for key, counts in other.by_model.items():
            self._model(*key).merge(counts)
        for code, count in other.failures_by_code.items():
            self.failures_by_code[bounded_label(code, self.failures_by_code)] += count
        self.listed_failures += other.listed_failures[: MAX_LISTED_FAILURES - len(self.listed_failures)]
        self.prompt_tokens.merge(other.prompt_tokens)
        self.completion_tokens.merge(other.completion_tokens)
        for name in ("slowest", "longest", "most_expensive", "sample"):
            getattr(self, name).merge(getattr(other, name))
        self.time.merge(other.time)

    @staticmethod
    def _known(*times: float | None) -> list[float]:
        return [time for time in times if time is not None]

    def _model(self, model: str, endpoint: str) -> ModelCounts:
        key = (model, endpoint)
        if key not in self.by_model and len(self.by_model) >= MAX_LABELS:
            key = ("other", "")
        if (counts := self.by_model.get(key)) is None:
            counts = self.by_model[key] = ModelCounts()
        return counts

    def _add_reply(self, row: RowFacts) -> None:
        self.replies += 1
        self._model(row.model, row.endpoint).add_reply(row)
        key = job_key(row.key)
        if row.used is not None:
            if row.used.prompt_tokens:
                self.prompt_tokens.add(row.used.prompt_tokens)
            if row.used.completion_tokens:
                self.completion_tokens.add(row.used.completion_tokens)
                self.longest.add(row.used.completion_tokens, key, row)
        if row.total_s is not None:
            self.slowest.add(row.total_s, key, row)
            self.sample.add(int.from_bytes(key[:6], "big"), key, row)
        if row.cost_usd:
            self.most_expensive.add(row.cost_usd, key, row)

    def _add_failure(self, row: RowFacts, code: str) -> None:
        self.failed += 1
        self.permanent_failures += row.is_permanent
        self.failures_by_code[bounded_label(code, self.failures_by_code)] += 1
        if row.model or row.endpoint:
            self._model(row.model, row.endpoint).failed += 1
        if len(self.listed_failures) < MAX_LISTED_FAILURES:
            self.listed_failures.append(row)

    def _add_to_time(self, row: RowFacts) -> None:
        if row.started_at is None or (ended_at := row.ended_at) is None:
            return
        if self.first_start is None or row.started_at < self.first_start:
            self.first_start = row.started_at
        if self.last_end is None or ended_at > self.last_end:
            self.last_end = ended_at
        self.time.at(row.started_at).in_flight_change += 1
        bucket = self.time.at(ended_at)
        bucket.in_flight_change -= 1
        if row.code is not None:
            bucket.failed += 1
            return
        bucket.replies += 1
        if row.used is not None:
            bucket.prompt_tokens += row.used.prompt_tokens
            bucket.completion_tokens += row.used.completion_tokens
        if row.total_s is not None:
            bucket.total[latency_class(row.total_s)] += 1
        if row.first_token_s is not None:
            bucket.first_token[latency_class(row.first_token_s)] += 1
