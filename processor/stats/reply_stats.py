"""Sums over the replies of this run: tokens, cost, durations, finish reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from processor.core.models import Result, Timing, Usage
from processor.stats.histogram import Histogram

MAX_LABELS = 40
"""Distinct strings from servers and files (finish reasons, codes, limit groups) that are counted separately."""


def bounded_label(label: str, known: Mapping[str, object]) -> str:
    """The label to count under: itself, or ``other`` where ``known`` is full."""
    return label if label in known or len(known) < MAX_LABELS else "other"


@dataclass(slots=True)
class TokenSums:
    """Token counts, summed over replies."""

    replies: int = 0
    prompt: int = 0
    completion: int = 0

    def add(self, usage: Usage) -> None:
        self.replies += 1
        self.prompt += usage.prompt_tokens
        self.completion += usage.completion_tokens


@dataclass(slots=True)
class GenerationSums:
    """The tokens of streamed replies, and the seconds from their first token to their end."""

    tokens: int = 0
    seconds: float = 0.0

    def add(self, usage: Usage, timing: Timing | None) -> None:
        if timing is not None and timing.first_token_s is not None:
            self.tokens += usage.completion_tokens
            self.seconds += timing.total_s - timing.first_token_s

    @property
    def tokens_per_s(self) -> float | None:
        """The speed of a reply, on average over all tokens; None where no reply was streamed."""
        return self.tokens / self.seconds if self.seconds > 0 else None


class ReplyStats:
    def __init__(self) -> None:
        self.count = 0
        self.used = TokenSums()
        """As the server reported them, else as computed: what is likely billed."""
        self.reported = TokenSums()
        self.computed = TokenSums()
        """As computed, for the replies whose usage was also reported."""
        self.cost_usd: float | None = None
        self.priced = 0
        """Replies whose cost is known."""
        self.generated = GenerationSums()
        self.finish_reasons: Counter[str] = Counter()
        """Replies by finish reason; a reply with several choices may count under several."""
        self.checked = 0
        """Replies whose output matches its schema; for others there is none."""
        self.cut_short = 0
        """Replies that ended at the limit of output tokens."""
        self.unconfirmed = 0
        """Replies without a finish reason that is known to mean success."""
        self.first_token = Histogram()
        self.total = Histogram()

    def add(self, result: Result) -> None:
        self.count += 1
        if result.is_cut_short:
            self.cut_short += 1
        if result.is_unconfirmed:
            self.unconfirmed += 1
        if result.validation is not None:
            self.checked += 1
        if result.cost_usd is not None:
            self.priced += 1
        for reason in result.finish_reasons:
            self.finish_reasons[bounded_label(reason, self.finish_reasons)] += 1
        timing = result.timing
        if (usage := self.add_paid(result)) is not None:
            self.generated.add(usage, timing)
        if timing is not None:
            self.total.add(timing.total_s)
            if timing.first_token_s is not None:
                self.first_token.add(timing.first_token_s)

    def add_paid(self, result: Result) -> Usage | None:
        """Add what was paid for a result, which may be a failed row: the tokens and the cost of its replies.

        Return the tokens of the last reply, as reported, else as computed.
        """
        usage, reported = result.usage, result.reported
        if reported is not None and usage is not None:
            self.reported.add(reported)
            self.computed.add(usage)
        last = reported or usage
        used = last if result.validation is None else result.validation.billed_usage
        if used is not None:
            self.used.add(used)
        if result.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + result.cost_usd
        return last
