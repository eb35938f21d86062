"""Counts what the provider has received, answered and billed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class BillingLog:
    """Totals, and with `track_identities` also counts by request identity (see `request_parser.identity`)."""

    track_identities: bool
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    """Responses by status code; 0 stands for a connection that was closed without a response."""
    faults: Counter[str] = field(default_factory=Counter)
    """Failures and quirks by name."""
    billed: int = 0
    """Requests for which generation started."""
    completed: int = 0
    """Replies sent completely."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests_by_identity: Counter[bytes] = field(default_factory=Counter)
    """Valid requests, also those that were then throttled."""
    billed_by_identity: Counter[bytes] = field(default_factory=Counter)
    completed_by_identity: Counter[bytes] = field(default_factory=Counter)

    def record(self, identity: bytes) -> None:
        """Count a valid request."""
        if self.track_identities:
            self.requests_by_identity[identity] += 1

    def bill(self, identity: bytes, prompt_tokens: int, completion_tokens: int) -> None:
        """Count a request for which generation started."""
        self.billed += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        if self.track_identities:
            self.billed_by_identity[identity] += 1

    def complete(self, identity: bytes) -> None:
        """Count a reply that was sent completely."""
        self.completed += 1
        if self.track_identities:
            self.completed_by_identity[identity] += 1
