"""Even pacing: after each request its share of a minute must pass before the next one. Pure.

This is the generic cell rate algorithm (GCRA, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm) with a burst
tolerance of a fraction of a second, and with room for requests that arrive later than they were sent.
"""

from __future__ import annotations

from math import exp, inf

from processor.ratelimit.estimator.counter_models import REFUSAL_HALF_LIFE_S, SMALL_BUCKET_S
from processor.ratelimit.estimator.decaying_value import DecayingValue
from processor.ratelimit.estimator.send_history import LATENCY_JITTER_S, WINDOW_S

PACING_SHARE = 0.999
"""Even pacing stays this little under the limit: what arrives in a minute was sent in up to 60.1 s."""

BURST_TOLERANCE_S = 0.25
"""Unused time that later requests may make up for: late timers, and waits for another limit. A bucket of one second
has room for it."""

PER_SECOND_BUCKET_S = 1.0
"""Refill time of the smallest bucket that a server may have behind a limit per minute."""

BACK_OFF = 0.1
"""The share by which a refusal slows the pace."""
MAX_BACK_OFF = 6.0
"""Most that 429s slow the pace, as exponent of e: 6 is 403 times slower."""


class Pacer:
    def __init__(self) -> None:
        self.assume_per_second_bucket = True
        """Whether a bucket of one second may stand behind the limit."""
        self._free_at = -inf
        """When the next request may be sent."""
        self._full_at = -inf
        """When a bucket of one second is full again."""
        self._back_off = DecayingValue(REFUSAL_HALF_LIFE_S)
        """How much slower the pace is than the limit, as exponent of e."""

    def earliest(self, cost: float, limit: float) -> float:
        """When this cost may be sent, under a limit a minute.

        A request that needs a whole bucket of one second waits until it is full, even where the last request arrived
        late and this one does not.
        """
        share_s = cost * WINDOW_S / limit
        if not self.assume_per_second_bucket:
            # What takes longer than a small bucket needs to refill can wait for the jitter, too.
            return self._free_at + (BURST_TOLERANCE_S + LATENCY_JITTER_S if share_s > SMALL_BUCKET_S else 0.0)
        return max(self._free_at, self._full_at + LATENCY_JITTER_S - max(0.0, PER_SECOND_BUCKET_S - share_s))

    def record(self, cost: float, limit: float, now: float) -> None:
        share_s = cost * WINDOW_S / (PACING_SHARE * limit)
        if self._back_off.is_raised:
            share_s *= exp(self._back_off.value(now))
        free_at, full_at = self._free_at, self._full_at
        if free_at > now or free_at == -inf:  # time saved up before a burst is not made up for
            free_at = now
        elif free_at < now - BURST_TOLERANCE_S:
            free_at = now - BURST_TOLERANCE_S
        if full_at < now:
            full_at = now
        elif full_at > now + BURST_TOLERANCE_S:
            full_at = now + BURST_TOLERANCE_S
        self._free_at, self._full_at = free_at + share_s, full_at + share_s

    def refund(self, cost: float, limit: float) -> None:
        """A recorded cost turned out to be lower by this much."""
        self._free_at -= cost * WINDOW_S / limit
        self._full_at -= cost * WINDOW_S / limit

    def correct(self, full_at: float) -> None:
        """The server has shown when a bucket is full again, after the newest cost."""
        if not self._back_off.is_raised:
            self._free_at += full_at - self._full_at
            self._full_at = full_at

    def back_off(self, now: float) -> None:
        self._back_off.raise_by(BACK_OFF, now, maximum=MAX_BACK_OFF)

    def reset(self, until: float, cost: float, rate: float) -> None:
        """From ``until`` on, when the server has room for this cost, earlier requests no longer delay. A bucket of one
        second may hold no more than this cost then."""
        missing_s = max(0.0, PER_SECOND_BUCKET_S - cost / rate) if self.assume_per_second_bucket else 0.0
        self._free_at = self._full_at = until + missing_s
