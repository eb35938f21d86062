"""Sums over the replies and failed jobs of each model."""

from __future__ import annotations

from dataclasses import dataclass, field

from processor.core.events import JobFinished, RunEvent
from processor.core.models import Result
from processor.stats.histogram import Histogram
from processor.stats.reply_stats import GenerationSums, TokenSums, bounded_label

NO_MODEL = ""
"""Stands for the model of a line that is no job."""


@dataclass(slots=True)
class ModelSums:
    """Less than ``ReplyStats`` has: it is counted beside those, for each reply."""

    failed: int = 0
    used: TokenSums = field(default_factory=TokenSums)
    cost_usd: float | None = None
    generated: GenerationSums = field(default_factory=GenerationSums)
    first_token: Histogram = field(default_factory=Histogram)
    done: int = 0

    def add(self, result: Result) -> None:
        if result.failure is not None:
            self.failed += 1
            return
        self.done += 1
        if result.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + result.cost_usd
        if (usage := result.reported or result.usage) is not None:
            self.used.add(usage)
            self.generated.add(usage, result.timing)
        if result.timing is not None and result.timing.first_token_s is not None:
            self.first_token.add(result.timing.first_token_s)


class ModelStats:
    """A listener. The names of models come from the job file: at most ``MAX_LABELS`` are told apart."""

    event_types = (JobFinished,)

    def __init__(self) -> None:
        self.by_model: dict[str, ModelSums] = {}

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, JobFinished):
            model = bounded_label(event.model or NO_MODEL, self.by_model)
            if (sums := self.by_model.get(model)) is None:
                sums = self.by_model[model] = ModelSums()
            sums.add(event.result)
