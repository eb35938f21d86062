"""Even pacing: each cost takes its share of the minute before the next may follow. Pure."""

from __future__ import annotations

from math import exp, inf

from processor.ratelimit.estimator.decaying_value import DecayingValue
from processor.ratelimit.estimator.send_history import LATENCY_JITTER_S, ORDER_CERTAIN_S, WINDOW_S

PACING_SHARE = 0.999
"""Even pacing stays this little under the limit: what arrives in a minute was sent in up to 60.1 s."""

BURST_TOLERANCE_S = 0.25
"""Time left unused that may be made up for: late timers, and waits for another limit. A second's bucket bears it."""

_LONG_S = 5.0
"""What takes so long can wait for the jitter too, whatever the server."""

_SLOWER = 0.1
_SLOWEST = 6.0
_SLOWER_HALVES_S = 10 * WINDOW_S


class Pacer:
    def __init__(self) -> None:
        self._free_at = -inf
        self._slower = DecayingValue(_SLOWER_HALVES_S)
        """By how many e-folds the pace is slower than the limit."""

    def at(self, cost: float, limit: float, *, careful: bool) -> float:
        """When this cost may go. ``careful``: a bucket of one second may stand behind the limit; what needs it
        full waits until it is, even where the last request arrived late and this one does not."""
        share_s = cost * WINDOW_S / limit
        if not careful:
            return self._free_at + (BURST_TOLERANCE_S + LATENCY_JITTER_S if share_s > _LONG_S else 0.0)
        beyond_s = share_s + BURST_TOLERANCE_S + ORDER_CERTAIN_S - 1.0
        if beyond_s <= 0:
            return self._free_at
        return self._free_at + (beyond_s if beyond_s <= BURST_TOLERANCE_S else BURST_TOLERANCE_S + LATENCY_JITTER_S)

    def went(self, cost: float, limit: float, now: float) -> None:
        share_s = cost * WINDOW_S / (PACING_SHARE * limit) * exp(self._slower.value(now))
        # What goes earlier than that, in a burst, is not owed.
        credit_s = 0.0 if self._free_at == -inf else BURST_TOLERANCE_S
        self._free_at = min(now, max(self._free_at, now - credit_s)) + share_s

    def give_back(self, cost: float, limit: float) -> None:
        """A cost turned out to be less by this much."""
        self._free_at -= cost * WINDOW_S / limit

    def slow_down(self, now: float) -> None:
        self._slower.raise_by(_SLOWER, now, most=_SLOWEST)

    def rest(self, until: float) -> None:
        """Nothing is owed any more at that time."""
        self._free_at = until
