"""How many requests of a limit group may be in flight before the first response, where no limit is known. Pure.

The response may name the limits: what was sent before it beyond them is refused. So the first request is alone, and
where no response comes in time, the number doubles every `DOUBLING_S`. A server whose headers come a little late has
then been sent few, and a slow one has all that it is to have within seconds.
"""

from __future__ import annotations

from math import inf

DOUBLING_S = 0.5
"""A thousand requests are in flight after ten times as long."""


class FirstRequests:
    """Times are seconds on the event loop's clock."""

    __slots__ = ("_alone_s", "_alone_until")

    def __init__(self, alone_s: float) -> None:
        """``alone_s``: how long the first request is alone. Some servers send no headers before the reply begins. 0:
        any number may be sent at once."""
        self._alone_s = alone_s
        self._alone_until = inf if alone_s else -inf
        """inf before the first request; -inf once any number may be sent."""

    def start(self, now: float) -> None:
        """A request is sent now. Only the first call starts the timeout."""
        if self._alone_until == inf:
            self._alone_until = now + self._alone_s

    def blocked_until(self, in_flight: int, now: float) -> float | None:
        """Return when one more than these may be in flight if no response comes; None if it may be now."""
        if in_flight == 0 or self._alone_until == -inf:
            return None
        doublings = in_flight.bit_length() - 1
        until = self._alone_until + doublings * DOUBLING_S
        return until if now < until else None

    def allow_all(self) -> None:
        """A response has come: any number of requests may be sent."""
        self._alone_until = -inf
