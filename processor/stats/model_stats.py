"""Sums over the replies and failed jobs of each model."""

from __future__ import annotations

from collections import Counter

from processor.core.events import JobFinished, RunEvent
from processor.stats.reply_stats import ReplyStats, bounded_label

NO_MODEL = ""
"""Stands for the model of a line that is no job."""


class ModelStats:
    """A listener. The names of models come from the job file: at most ``MAX_LABELS`` are told apart."""

    event_types = (JobFinished,)

    def __init__(self) -> None:
        self.replies: dict[str, ReplyStats] = {}
        """By model, also where all of its jobs failed."""
        self.failed: Counter[str] = Counter()

    def __call__(self, event: RunEvent) -> None:
        if not isinstance(event, JobFinished):
            return
        model = bounded_label(event.model or NO_MODEL, self.replies)
        if (replies := self.replies.get(model)) is None:
            replies = self.replies[model] = ReplyStats()
        if event.result.failure is None:
            replies.add(event.result)
        else:
            self.failed[model] += 1
