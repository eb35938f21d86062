"""The best that a client can do without one refusal that knows from the start how the server counts, and the charges.

It learns when its requests have arrived only from what is certain: at the latest ``JITTER_S`` after they were sent. So
the next one is sent when it fits whether the last one arrived at once or so late. Where a request needs a whole bucket
of one second, each late arrival costs time that no client can make up for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random

from processor.simulator.counters import MINUTE_NS, SECOND_NS, ServerCounter, SlidingWindowCounter, TokenBucketCounter
from processor.simulator.rate_limiter import LimiterKind
from tests.support.limiter_simulation import JITTER_S

_JITTER_NS = round(JITTER_S * SECOND_NS)


class InformedClient:
    """Sends requests of these charges, first in, first out, to a server of this kind and limit a minute."""

    def __init__(self, kind: LimiterKind, limit: int, seed: int = 1) -> None:
        window_ns = SECOND_NS if kind in ("second", "quantised") else MINUTE_NS
        self._is_window = kind == "sliding"
        self._capacity = max(1, limit * window_ns // MINUTE_NS)
        # As the server counts, and as the client knows for certain.
        self._server, self._certain = (
            SlidingWindowCounter(limit) if self._is_window else TokenBucketCounter(limit, window_ns) for _ in range(2)
        )
        self._on_the_way: deque[tuple[int, int]] = deque()
        """When each request has arrived for certain, and its charge."""
        self._rng = Random(seed)

    def attainable_s(self, charges: Sequence[int]) -> float:
        """When the last request arrives; raises AssertionError where one would be refused."""
        arrivals, now_ns = [], 0
        for charge in charges:
            now_ns = self._earliest_ns(charge, now_ns)
            self._on_the_way.append((now_ns + _JITTER_NS, charge))
            arrivals.append((now_ns + round(self._rng.uniform(0, _JITTER_NS)), charge))
        for at_ns, charge in sorted(arrivals):
            assert self._server.ns_until_fits(at_ns, charge) == 0
            self._server.count(at_ns, charge)
        return max(arrivals)[0] / SECOND_NS

    def _earliest_ns(self, charge: int, now_ns: int) -> int:
        while True:
            while self._on_the_way and self._on_the_way[0][0] <= now_ns:
                self._certain.count(*self._on_the_way.popleft())
            needed = charge + sum(one for _, one in self._on_the_way)
            arrived_ns = self._on_the_way[0][0] if self._on_the_way else None
            if arrived_ns is not None and not self._is_window and needed > self._capacity:
                now_ns = arrived_ns
                continue
            wait_ns = self._wait_ns(self._certain, needed, arrived_ns, now_ns)
            if wait_ns == 0:
                return now_ns
            now_ns += wait_ns

    @staticmethod
    def _wait_ns(counter: ServerCounter, needed: int, arrived_ns: int | None, now_ns: int) -> int:
        """Until there is room, or more is known."""
        fits_ns = counter.ns_until_fits(now_ns, needed)
        waits = [fits_ns] if fits_ns is not None else []
        if arrived_ns is not None and fits_ns != 0:
            waits.append(arrived_ns - now_ns)
        return min(waits)
