"""What the jobs of one limit group are charged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from processor.core.models import Cost


class ChargedRequest(NamedTuple):
    """What one request is charged, and how long that takes."""

    cost: Cost
    reply_s: float = 0.0
    """The time of its reply; 0 where it is not known."""
    reserved: int = 0
    """The tokens that the server counts until the reply is complete, where it then counts those used."""


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
    reserved: int = 0
    """The tokens that all of them have reserved."""

    def add(self, charged: ChargedRequest) -> None:
        """Add a request."""
        cost = charged.cost
        self.requests += 1
        self.tokens += cost.tokens
        self.input_tokens += cost.input_tokens
        self.output_tokens += cost.output_tokens
        self.replies_s += charged.reply_s
        self.reserved += charged.reserved

    def add_all(self, other: GroupTotals) -> None:
        self.requests += other.requests
        self.tokens += other.tokens
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.replies_s += other.replies_s
        self.reserved += other.reserved

    def part(self, share: float) -> GroupTotals:
        """What a share of these requests is charged, if they are alike."""
        return GroupTotals(
            self.model,
            round(self.requests * share),
            round(self.tokens * share),
            round(self.input_tokens * share),
            round(self.output_tokens * share),
            self.replies_s * share,
            round(self.reserved * share),
        )
