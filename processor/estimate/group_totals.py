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

    def add(self, cost: Cost) -> None:
        """Add a request."""
        self.requests += 1
        self.tokens += cost.tokens
        self.input_tokens += cost.input_tokens
        self.output_tokens += cost.output_tokens

    def add_all(self, other: GroupTotals) -> None:
        self.requests += other.requests
        self.tokens += other.tokens
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
