"""Counts jobs, tokens and what is wrong, line by line, in memory that does not depend on the lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from processor.core.events import SkipReason
from processor.core.models import Cost, RequestSize, SourceFile, position_of
from processor.estimate.group_totals import ChargedRequest, GroupTotals
from processor.estimate.job_costs import CostTotals, JobCosts
from processor.estimate.job_sizes import SizedJob, SizedPart
from processor.estimate.known_replies import KnownReplies
from processor.estimate.sending_order import SendingOrder
from processor.input.job_file import InvalidLine
from processor.output.job_index import JobIndex, JobStatus
from processor.ratelimit.settings import LimitSettings, limit_group_key
from processor.ratelimit.token_cost import DEFAULT_OUTPUT_TOKENS, request_cost
from processor.scheduler import RunOptions
from processor.scheduler.selection import classify, skip_reason
from processor.stats.histogram import Histogram

MAX_LISTED_LINES = 1000
"""Line numbers that are kept of each kind of mistake."""


@dataclass(slots=True)
class Mistakes:
    """Lines that are no job, of one kind."""

    count: int
    positions: list[int]
    """Of the first MAX_LISTED_LINES of them."""
    message: str
    """Of the first."""


@dataclass(slots=True)
class TokenTotals:
    """What the jobs of one model and API path, or of all, have and may have."""

    jobs: int = 0
    prompt: int = 0
    expected: float = 0.0
    """Tokens of replies, where ``is_expected_known``."""
    at_most: int = 0
    """Tokens of the replies that a limit bounds."""
    unbounded: int = 0
    """Jobs that set no limit."""
    is_expected_known: bool = True
    costs: CostTotals = field(default_factory=CostTotals)

    def add(self, other: TokenTotals) -> None:
        self.jobs += other.jobs
        self.prompt += other.prompt
        self.expected += other.expected
        self.at_most += other.at_most
        self.unbounded += other.unbounded
        self.is_expected_known &= other.is_expected_known
        self.costs.add(other.costs)


@dataclass(slots=True, kw_only=True)
class JobCounts:
    lines: int = 0
    """Lines that are not blank."""
    skipped: Counter[SkipReason] = field(default_factory=Counter)
    mistakes: dict[str, Mistakes] = field(default_factory=dict)
    models: dict[tuple[str, str], TokenTotals] = field(default_factory=dict)
    """By model and API path."""
    groups: dict[str, GroupTotals] = field(default_factory=dict)
    """By limit group."""
    prompt: Histogram = field(default_factory=Histogram)
    largest: tuple[int, int] = (0, 0)
    """Prompt tokens of the job with the longest prompt, and its position with a minus sign."""
    estimated: int = 0
    """Jobs whose prompt tokens are an estimate."""

    @property
    def all(self) -> TokenTotals:
        totals = TokenTotals()
        for model in self.models.values():
            totals.add(model)
        return totals

    @property
    def invalid(self) -> int:
        return sum(mistakes.count for mistakes in self.mistakes.values())


class JobCounter:
    """Counts part after part of a job file."""

    def __init__(
        self,
        index: JobIndex,
        options: RunOptions,
        limits: LimitSettings,
        replies: KnownReplies,
        costs: JobCosts,
        order: SendingOrder,
        limit: int | None,
    ) -> None:
        self.counts = JobCounts()
        self._index = index
        self._options = options
        self._limits = limits
        self._replies = replies
        self._costs = costs
        self._order = order
        self._limit = limit
        self._lines_before = 0
        self._lines_read = 0
        self._source: SourceFile | None = None

    def begin_file(self, source: SourceFile | None) -> None:
        """Count the lines from 1 again. ``source`` is the file that the next parts are of, where there are several."""
        self._lines_before, self._source = 0, source

    @property
    def is_full(self) -> bool:
        """Whether ``--limit`` leaves out what follows."""
        return self._lines_read == self._limit

    def add(self, part: SizedPart) -> None:
        for item in part.items:
            if self.is_full:
                return
            self._lines_read += 1
            if not self._options.includes(item if isinstance(item, InvalidLine) else item.job):
                continue
            self.counts.lines += 1
            if isinstance(item, InvalidLine):
                self._add_mistake(item.code, self._position(item.line), item.message)
            else:
                self._add_job(item)
        self._lines_before += part.lines

    def _add_job(self, item: SizedJob) -> None:
        position = self._position(item.job.line)
        custom_id, status = classify(item.job, self._index, self._options)
        if status is JobStatus.DUPLICATE:
            self._add_mistake("duplicate_custom_id", position, f"custom_id {custom_id!r} is taken by an earlier line")
        elif reason := skip_reason(status, self._options):
            self.counts.skipped[reason] += 1
        else:
            self._add_size(item, position)

    def _position(self, line_of_part: int) -> int:
        return position_of(self._lines_before + line_of_part, self._source)

    def _add_mistake(self, code: str, position: int, message: str) -> None:
        mistakes = self.counts.mistakes.setdefault(code, Mistakes(0, [], message))
        mistakes.count += 1
        if len(mistakes.positions) < MAX_LISTED_LINES:
            mistakes.positions.append(position)

    def _add_size(self, item: SizedJob, position: int) -> None:
        counts, size = self.counts, item.size
        counts.prompt.add(size.prompt_tokens)
        counts.largest = max(counts.largest, (size.prompt_tokens, -position))
        counts.estimated += bool(size.prompt_estimated)
        at_most = None if size.max_tokens is None else size.max_tokens * size.choices
        expected = self._replies.mean_tokens(size.model, at_most)
        if at_most == 0:
            expected = 0.0
        totals = counts.models.setdefault((size.model, size.path), TokenTotals())
        totals.jobs += 1
        totals.prompt += size.prompt_tokens
        totals.expected += expected or 0.0
        totals.is_expected_known &= expected is not None
        totals.at_most += at_most or 0
        totals.unbounded += at_most is None
        cost = self._costs.add(size, expected, totals.costs)
        name, charged = limit_group_key(self._limits, size), self._charged(size, expected, at_most)
        counts.groups.setdefault(name, GroupTotals(size.model)).add(charged)
        self._order.add(item.size_in_order, size.model, name, charged, cost)

    def _charged(self, size: RequestSize, expected: float | None, at_most: int | None) -> ChargedRequest:
        """What the limits are charged. ``expected``: tokens of the reply; ``at_most``: as the job bounds them."""
        accounting = self._limits.charging
        output = DEFAULT_OUTPUT_TOKENS if expected is None else round(expected / size.choices)
        arriving, reply_s = request_cost(size, accounting, output), self._replies.expected_s(size.model, at_most) or 0.0
        if accounting != "used" or expected is None:
            return ChargedRequest(arriving, reply_s)
        used = Cost(tokens=size.prompt_tokens + round(expected), input_tokens=size.prompt_tokens)
        return ChargedRequest(used, reply_s, arriving.tokens)
