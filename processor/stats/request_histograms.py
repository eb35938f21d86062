"""Histograms of replies by the conventions of OpenTelemetry for generative AI, in bounded memory.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from processor.core.events import JobFinished, RunEvent
from processor.core.models import Result
from processor.stats.reply_stats import bounded_label

DURATION_BOUNDS_S = tuple(0.01 * 2**power for power in range(17))
"""The conventions' own bounds, to 81.92 s, and three more: replies of reasoning models take longer."""
TOKEN_BOUNDS = tuple(float(4**power) for power in range(14))


class FixedHistogram:
    """Counts values by fixed upper bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """By bound; the last one counts what is beyond them."""
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(slots=True)
class ReplyHistograms:
    """Those of one model at one endpoint."""

    first_token: FixedHistogram = field(default_factory=lambda: FixedHistogram(DURATION_BOUNDS_S))
    total: FixedHistogram = field(default_factory=lambda: FixedHistogram(DURATION_BOUNDS_S))
    input_tokens: FixedHistogram = field(default_factory=lambda: FixedHistogram(TOKEN_BOUNDS))
    output_tokens: FixedHistogram = field(default_factory=lambda: FixedHistogram(TOKEN_BOUNDS))

    def add(self, result: Result) -> None:
        if result.timing is not None:
            self.total.add(result.timing.total_s)
            if result.timing.first_token_s is not None:
                self.first_token.add(result.timing.first_token_s)
        if (used := result.reported or result.usage) is not None:
            self.input_tokens.add(used.prompt_tokens)
            self.output_tokens.add(used.completion_tokens)


class RequestHistograms:
    """A listener that fills the histograms."""

    event_types = (JobFinished,)

    def __init__(self) -> None:
        self.by_target: dict[tuple[str, str], ReplyHistograms] = {}
        """By endpoint and model."""
        self._labels: dict[str, None] = {}

    def __call__(self, event: RunEvent) -> None:
        if not isinstance(event, JobFinished) or event.result.failure is not None:
            return
        model = bounded_label(event.model or "", self._labels)
        self._labels[model] = None
        target = (event.result.endpoint or "", model)
        if target not in self.by_target:
            self.by_target[target] = ReplyHistograms()
        self.by_target[target].add(event.result)
