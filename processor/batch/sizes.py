"""How large a batch is, and whether a further job fits into it. Pure."""

from __future__ import annotations

from processor.core.fast_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSize:
    """The size of one job in a batch, or of all of them together."""

    jobs: int = 0
    bytes: int = 0
    """As uploaded."""
    tokens: int = 0
    """Of the prompts."""
    inputs: int = 0

    def __add__(self, other: BatchSize) -> BatchSize:
        return BatchSize(
            jobs=self.jobs + other.jobs,
            bytes=self.bytes + other.bytes,
            tokens=self.tokens + other.tokens,
            inputs=self.inputs + other.inputs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """The most that one batch may hold. None: no limit."""

    jobs: int
    bytes: int
    inputs: int | None = None

    def allow(self, size: BatchSize, tokens: int | None) -> bool:
        """Whether a batch of this size may be submitted. ``tokens``: the most that its model has room for."""
        return (
            size.jobs <= self.jobs
            and size.bytes <= self.bytes
            and (self.inputs is None or size.inputs <= self.inputs)
            and (tokens is None or size.tokens <= tokens)
        )


class EnqueuedRoom:
    """The most prompt tokens of each model that may be in batches which have not ended: learned from refusals."""

    def __init__(self, configured: int | None) -> None:
        self._configured = configured
        self._learned: dict[str, int] = {}

    def limit(self, model: str) -> int | None:
        """None where no limit is known."""
        known = [limit for limit in (self._configured, self._learned.get(model)) if limit is not None]
        return min(known, default=None)

    def has_room(self, model: str, enqueued: int, tokens: int) -> bool:
        """Whether a batch may be submitted beside what is enqueued. One that is alone always may."""
        limit = self.limit(model)
        return limit is None or not enqueued or enqueued + tokens <= limit

    def refused(self, model: str, enqueued: int, size: BatchSize) -> bool:
        """Learn from a refusal of a batch beside what was enqueued. Return whether its jobs may be accepted later."""
        self._learned[model] = enqueued or max(size.tokens // 2, 1)
        return enqueued > 0 or size.jobs > 1
