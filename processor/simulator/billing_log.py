"""What a provider would bill, and what it has seen: for tests, and for the end of a simulation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class BillingLog:
    """Totals always; the counts by identity (see `requests.identity`) only where they are kept."""

    keeps_identities: bool
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    """Responses by status; 0 where no response began."""
    faults: Counter[str] = field(default_factory=Counter)
    """Failures and manners that happened."""
    billed: int = 0
    """Requests for which generating began."""
    completed: int = 0
    """Replies sent to their end."""
    completion_tokens: int = 0
    seen: Counter[bytes] = field(default_factory=Counter)
    """Valid requests."""
    billed_by: Counter[bytes] = field(default_factory=Counter)
    completed_by: Counter[bytes] = field(default_factory=Counter)

    def see(self, identity: bytes) -> None:
        if self.keeps_identities:
            self.seen[identity] += 1

    def bill(self, identity: bytes, completion_tokens: int) -> None:
        self.billed += 1
        self.completion_tokens += completion_tokens
        if self.keeps_identities:
            self.billed_by[identity] += 1

    def complete(self, identity: bytes) -> None:
        self.completed += 1
        if self.keeps_identities:
            self.completed_by[identity] += 1
