"""What a token of ours costs at the server: learned from how far *remaining* falls within a burst. Pure.

Requests that are sent together are counted together, and next to nothing comes back in between, whatever the
kind of server. So the fall from the first counted to the last is what it charged for all but the first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from math import inf
from operator import attrgetter

from processor.ratelimit.estimator.send_history import LATE_ARRIVAL_S, MERGE_S, ORDER_CERTAIN_S, WINDOW_S, SendHistory

BURST_WINDOW_S = 0.05
"""What is sent this close together is one burst."""

ISOLATION_S = LATE_ARRIVAL_S + 2 * MERGE_S
"""What is sent so long before or after does not belong to it."""

_FEWEST = 3
_KEPT = 64
_DOUBT = 30
"""Where others may be in between, so many requests of a burst count for half; but not of the first lesson."""
_ROUNDING = 2
_BLUR = 0.25
"""A burst teaches nothing where more than this share of it may have come back, or be somebody else's."""
_LEAST, _MOST = 0.25, 4.0


@dataclass(slots=True)
class Burst:
    start: float
    sent: int = 0
    answered: int = 0
    cost: float = 0.0
    largest: float = 0.0
    highest: float = -inf
    first_cost: float = 0.0
    """Of the request that was counted first: the one that showed the highest remaining."""
    lowest: float = inf


_START = attrgetter("start")


class TokenRatio:
    def __init__(self) -> None:
        self.rate = 1.0
        """What the server charges for one unit of ours."""
        self._learned = False
        self._bursts: deque[Burst] = deque(maxlen=_KEPT)

    def sent(self, cost: float, at: float) -> None:
        if not self._bursts or at > self._bursts[-1].start + BURST_WINDOW_S:
            self._bursts.append(Burst(at))
        burst = self._bursts[-1]
        burst.sent += 1
        burst.cost += cost
        burst.largest = max(burst.largest, cost)

    def reply(self, sent_at: float, cost: float, remaining: float, ledger: SendHistory, *, company: bool) -> bool:
        """``company``: others use the key too. Returns whether the rate has changed."""
        burst = self._burst(sent_at)
        if burst is None:
            return False
        burst.answered += 1
        if remaining > burst.highest:
            burst.highest, burst.first_cost = remaining, cost
        burst.lowest = min(burst.lowest, remaining)
        whole = burst.answered == burst.sent and burst.lowest > 0
        return whole and burst.largest <= burst.cost / _FEWEST and self._learn(burst, ledger, company)

    def refused(self, sent_at: float, cost: float) -> None:
        """It was charged nothing."""
        burst = self._burst(sent_at)
        if burst is not None:
            burst.sent -= 1
            burst.cost -= cost

    def _burst(self, sent_at: float) -> Burst | None:
        which = bisect_right(self._bursts, sent_at, key=_START) - 1
        return self._bursts[which] if which >= 0 else None

    def _learn(self, burst: Burst, ledger: SendHistory, company: bool) -> bool:
        fall, cost = (burst.highest - burst.lowest) / self.rate, burst.cost - burst.first_cost
        rounding, strays, returns = (
            _ROUNDING / self.rate,
            _strays(burst, ledger),
            _returns(burst, ledger, ORDER_CERTAIN_S),
        )
        if fall - rounding - strays > cost:
            if strays + returns > _BLUR * cost:
                return False
            shown = fall + (returns - strays) / 2
        else:
            # Cheaper only as far as it is certain: who believes it wrongly sends too much.
            shown = fall + rounding + _returns(burst, ledger, LATE_ARRIVAL_S)
            if shown >= cost:
                return False
        target = min(_MOST, max(_LEAST, self.rate * shown / cost))
        self.rate += (target - self.rate) * burst.sent / (burst.sent + (_DOUBT if company and self._learned else 1))
        self._learned = True
        return True


def _strays(burst: Burst, ledger: SendHistory) -> float:
    """What was sent so shortly before or after that it may have been counted in between."""
    around = ledger.total_sent_by(burst.start + BURST_WINDOW_S + LATE_ARRIVAL_S) - ledger.total_sent_by(
        burst.start - LATE_ARRIVAL_S
    )
    return max(0.0, around - burst.cost)


def _returns(burst: Burst, ledger: SendHistory, late_s: float) -> float:
    """What may have come back in between, if the last arrived so late: a bucket's refill, or what left a window."""
    first, last = burst.start - WINDOW_S - late_s, burst.start + BURST_WINDOW_S - WINDOW_S + late_s
    return max(ledger.rate * (late_s + BURST_WINDOW_S), ledger.total_sent_by(last) - ledger.total_sent_by(first))
