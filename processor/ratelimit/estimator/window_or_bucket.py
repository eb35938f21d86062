"""How does the server count: by a window, or by a bucket? The headers tell, before anything is refused. Pure.

Between two headers the kinds predict different changes, as soon as something has come back to the one and not
to the other. Two requests in even pacing are enough, if the server is a bucket: the second sees it full again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Literal

from processor.ratelimit.estimator.external_usage import Interval

CounterType = Literal["window", "bucket"]

_MARK_EVERY_S = 0.25
_MARKS = 8


@dataclass(frozen=True, slots=True)
class Observation:
    """One header, and what each kind of server without other users would have shown in its place."""

    at: float
    """When its request was sent."""
    shown: float
    sent: float
    """All that was sent by then."""
    late: float
    """What was sent so much later that it was counted before only if this one was late."""
    early: float
    """Of what was sent so much earlier that it was counted after only if it was late: as much as may have been."""
    window: Interval
    bucket: Interval


class CounterClassifier:
    def __init__(self, tolerance: float) -> None:
        """``tolerance``: by which share the server's charges may differ from ours."""
        self.kind: CounterType | None = None
        self._tolerance = tolerance
        self._marks: deque[tuple[Observation, float]] = deque(maxlen=_MARKS)
        self._doubtful = 0.0

    def doubt(self, cost: float) -> None:
        """Nobody knows whether the server has counted this: it was refused, or got lost."""
        self._doubtful += cost

    def forget(self) -> None:
        """What was shown so far compares with nothing to come. The kind stays."""
        self._marks.clear()

    def hear(self, mark: Observation) -> None:
        if not self._marks or mark.at > self._marks[-1][0].at + _MARK_EVERY_S:
            self.kind = self._compared(mark) or self.kind
            self._marks.append((mark, self._doubtful))

    def exceeds_window(self, excess: float, held: float) -> None:
        """More is left than a window that holds this much could leave: something is refilled."""
        if excess > 0.5 + self._tolerance * held + self._doubtful:
            self.kind = "bucket"

    def _compared(self, new: Observation) -> CounterType | None:
        """The kind that explains what came back since an earlier header, where the other cannot."""
        for old, doubtful in self._marks:
            rose = new.shown - old.shown
            tolerance = 1 + self._tolerance * (new.sent - old.sent) + self._doubtful - doubtful
            window, bucket = _offs(new, old, rose, rose)
            # Who excludes a kind must do so even if something was late.
            window_late, bucket_late = _offs(new, old, rose - old.late - new.early, rose + new.late + old.early)
            # Something fell to 0: that may hide a debt, with which anything agrees.
            if (new.shown or not old.shown) and bucket <= tolerance / 2 and window_late > bucket + tolerance:
                return "bucket"
            if window <= tolerance / 2 and bucket_late > window + tolerance:
                return "window"
        return None


def _offs(new: Observation, old: Observation, least: float, most: float) -> tuple[float, float]:
    """By how much a change, of ``least`` to ``most``, lies outside of what a window allows, and a bucket."""
    window = _off(least, most, new.window, old.window)
    # A bucket in debt shows 0.
    return window, _off(least if new.shown else -inf, most if old.shown else inf, new.bucket, old.bucket)


def _off(least: float, most: float, new: Interval, old: Interval) -> float:
    """The same, for two predictions of one kind."""
    return max(0.0, new.least - old.most - most, least - (new.most - old.least))
