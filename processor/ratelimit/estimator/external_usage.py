"""Estimates what other clients use of a limit: another program with the same key, or an earlier run. Pure.

It is known only by what is missing: a header shows less than the server model predicts from our own requests.
"""

from __future__ import annotations

from math import exp, inf
from typing import NamedTuple

from processor.ratelimit.estimator.send_history import WINDOW_S

FORECAST_S = 10.0
"""The growth of external usage is averaged over this time, and extrapolated over at most as much. A burst waits for a
header that is no older than this."""

SHARED_KEY_SHARE = 0.02
"""Others that use more than this share of the limit make window and bucket look alike for a minute."""


class Interval(NamedTuple):
    """Two bounds of an unknown number."""

    low: float
    high: float


class ExternalUsage:
    def __init__(self) -> None:
        self.used = 0.0
        self._growth_per_s = 0.0
        self._last_sample: tuple[float, float] | None = None
        """Its time, and the usage at that time."""

    def fit(self, predicted: Interval, shown: float, spare: float) -> None:
        """Correct the estimate by one header.

        ``predicted``: what the header would show without other clients; ``shown``: what it shows. An estimate that
        explains the header stays. Otherwise it becomes the smallest that does, plus ``spare``.
        """
        low, high = predicted.low - (shown + 1), predicted.high - shown
        if self.used > high:
            self.used = high
        elif self.used < low:
            self.used = min(high, low + spare)

    def sample(self, at: float) -> None:
        """Update the growth: all headers of requests sent until ``at`` have been fitted."""
        if self._last_sample is not None:
            since, used = self._last_sample
            weight = 1 - exp((since - at) / FORECAST_S)
            self._growth_per_s += weight * ((self.used - used) / (at - since) - self._growth_per_s)
        self._last_sample = (at, self.used)

    def forecast(self, since: float, now: float) -> float:
        """The usage expected now, where ``since`` is the send time of the newest request with a header."""
        if self._growth_per_s <= 0.0 or now <= since:
            return self.used
        return self.used + self._growth_per_s * min(FORECAST_S, now - since)

    def rescale(self, factor: float) -> None:
        """Convert to other units. A negative usage came from the wrong units and is dropped."""
        self.used = max(0.0, self.used * factor)
        self._growth_per_s *= factor
        self._last_sample = None


class OtherClients:
    """When others were seen to use the limit, by when the requests were sent whose headers showed it."""

    def __init__(self) -> None:
        self.shared_at = -inf
        """When much of it was used last, or less than nothing: then the picture was wrong."""
        self._used_at = -inf
        """When more than ``SHARED_KEY_SHARE`` was used last."""

    def observe(self, used: float, share: float, sent_at: float, *, is_bucket: bool) -> None:
        """``share``: what is not yet much."""
        if (used if is_bucket else abs(used)) > share:
            self.shared_at = sent_at
        if used > share:
            self._used_at = sent_at

    def is_shared(self, newest_sent_at: float) -> bool:
        """Whether others have used a good part of the limit lately."""
        return newest_sent_at - self.shared_at <= WINDOW_S

    def is_stale(self, newest_sent_at: float, now: float) -> bool:
        """Whether others may have used by now what the newest header left."""
        return newest_sent_at - self._used_at <= WINDOW_S and now - newest_sent_at > FORECAST_S
