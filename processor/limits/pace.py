"""Even pacing: each cost takes its share of the minute before the next may follow. Pure."""

from __future__ import annotations

from math import exp, inf

from processor.limits.fading import Fading
from processor.limits.ledger import JITTER_S, SPREAD_S, WINDOW_S

EVEN = 0.998
"""Even pacing stays this little under the limit: what arrives in a minute was sent in up to 60.1 s."""

LATE_S = 0.02
"""By how much a timer may be late. Where costs follow each other faster than this, it is made up for."""

_LONG_S = 10.0
"""What takes so long can wait for the jitter too, whatever the server."""

_SLOWER = 0.1
_SLOWEST = 6.0
_SLOWER_HALVES_S = 5 * WINDOW_S


class Pace:
    def __init__(self) -> None:
        self._free_at = -inf
        self._slower = Fading(_SLOWER_HALVES_S)
        """By how many e-folds the pace is slower than the limit."""

    def at(self, cost: float, limit: float, *, careful: bool) -> float:
        """When this cost may go. ``careful``: a bucket of one second may stand behind the limit; what needs it
        full waits until it is, even where the last request arrived late and this one does not."""
        needs_it_full = cost * WINDOW_S / limit > (1 - SPREAD_S if careful else _LONG_S)
        return self._free_at + JITTER_S if needs_it_full else self._free_at

    def went(self, cost: float, limit: float, now: float) -> None:
        share_s = cost * WINDOW_S / (EVEN * limit) * exp(self._slower.value(now))
        start = max(self._free_at, now - LATE_S) if share_s < LATE_S else now
        self._free_at = start + share_s

    def give_back(self, cost: float, limit: float) -> None:
        """A cost turned out to be less by this much."""
        self._free_at -= cost * WINDOW_S / limit

    def slow_down(self, now: float) -> None:
        self._slower.raise_by(_SLOWER, now, most=_SLOWEST)

    def rest(self, until: float) -> None:
        """Nothing is owed any more at that time."""
        self._free_at = until
