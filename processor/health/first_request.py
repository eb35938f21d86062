"""Sends the first request of a limit group alone, where no limit is known: its response may name the limits. Pure."""

from __future__ import annotations

from math import inf


class FirstRequest:
    """One request that is sent alone. Times are seconds on the event loop's clock."""

    __slots__ = ("_alone_s", "_alone_until")

    def __init__(self, alone_s: float) -> None:
        """``alone_s``: how long the other requests wait. Some servers send no headers before the reply begins."""
        self._alone_s = alone_s
        self._alone_until = inf
        """inf before the first request; -inf once the other requests may follow."""

    def start(self, now: float) -> None:
        """A request is sent now. Only the first call starts the timeout."""
        if self._alone_until == inf:
            self._alone_until = now + self._alone_s

    def alone_until(self, now: float) -> float | None:
        """Return when the other requests may follow at the latest; None if they may follow now."""
        return self._alone_until if now < self._alone_until else None

    def allow_all(self) -> None:
        """Let the other requests follow, from now on."""
        self._alone_until = -inf
