"""What the jobs of one limit group are charged."""

from __future__ import annotations

from dataclasses import dataclass

from processor.core.models import Cost


@dataclass(slots=True)
class GroupTotals:
    """What a limit group is charged."""

    model: str
    requests: int = 0
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    replies_s: float = 0.0
    """The time that all replies take, one after the other; 0 where it is not known."""

    def add(self, cost: Cost, reply_s: float = 0.0) -> None:
        """Add a request."""
        self.requests += 1
        self.tokens += cost.tokens
        self.input_tokens += cost.input_tokens
        self.output_tokens += cost.output_tokens
        self.replies_s += reply_s

    def add_all(self, other: GroupTotals) -> None:
        self.requests += other.requests
        self.tokens += other.tokens
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.replies_s += other.replies_s

    def part(self, share: float) -> GroupTotals:
        """What a share of these requests is charged, if they are alike."""
        return GroupTotals(
            self.model,
            round(self.requests * share),
            round(self.tokens * share),
            round(self.input_tokens * share),
            round(self.output_tokens * share),
            self.replies_s * share,
        )
