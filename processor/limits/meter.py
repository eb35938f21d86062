"""One limit of a lane: how much of it is in use, and when a cost fits."""

from __future__ import annotations

from processor.limits.pacer import Pacer
from processor.limits.window import Slice, Window

EVEN = 0.998
"""Even pacing stays this little under the limit: a window at the server, with jitter, is up to 60.1 s of sending."""


class Meter:
    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.pending = 0.0
        """Permitted, but not yet sent: may reach the server at any time."""
        self.window = Window()
        self.pacer = Pacer(EVEN * limit / 60, 1.0)

    def ready_at(self, cost: float, now: float) -> float:
        """When this cost fits; inf: when something permitted has been sent."""
        self.window.forget(now)
        return self.window.when(self.window.held + self.pending + cost - self.limit, now)

    def sent(self, cost: float, at: float) -> Slice:
        self.pending -= cost
        return self.window.add(at, cost)
