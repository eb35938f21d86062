"""How many requests in flight a server is worth that never says 429 (vLLM, llama.cpp). Pure: times are passed in.

Such a server answers everything, only later and later: its throughput grows with what is in flight until it is busy,
and from there on only the waiting grows. The level looks for that knee from both sides: it rises while that pays in
throughput, doubling at first, and falls while that costs next to none.
"""

from __future__ import annotations

INITIAL_CONCURRENCY = 8
MIN_ROUND_REPLIES = 32
"""Replies are of varied length: fewer of them say little."""

MIN_GAIN = 0.3
"""A rise pays where throughput grows by at least this share of it, a fall where it loses no more than that."""

STEP = 0.2
HOLD_ROUNDS = 4
"""Rounds at a level that a step away from it did not improve, before the next one, the other way."""


class ConcurrencyController:
    """``limit`` is the number of requests that may be in flight. It changes by rounds of so many replies."""

    def __init__(self, ceiling: int, *, first: int = INITIAL_CONCURRENCY) -> None:
        self.limit = min(first, ceiling)
        self._ceiling = ceiling
        self._doubling = True
        self._rises = True
        self._resting = 0
        self._before: tuple[int, float] | None = None
        """Level and throughput before the step that is being tried."""
        self._begin(0.0)

    def replied(self, *, sent_at: float, at: float, work: float, in_flight: int) -> None:
        """A reply is complete. ``work``: its tokens; ``in_flight``: requests in flight until now, with this one."""
        if sent_at < self._began_at:
            return
        self._replies += 1
        self._work += work
        self._latency_s += at - sent_at
        self._saturated += in_flight >= self.limit
        if self._replies >= max(MIN_ROUND_REPLIES, 2 * self.limit):
            self._look(at)

    def refused(self, at: float) -> None:
        """It did say 429, without a word about limits."""
        self.limit = max(1, self.limit // 2)
        self._before = None
        self._doubling, self._rises = False, True
        self._resting = HOLD_ROUNDS
        self._begin(at)

    def _begin(self, at: float) -> None:
        self._began_at = at
        self._replies = self._saturated = 0
        self._work = self._latency_s = 0.0

    def _look(self, at: float) -> None:
        # Little's law: what is in flight, over the time each piece of it takes. Steadier than counting by the clock.
        throughput = self.limit * self._work / max(self._latency_s, 1e-9)
        if self._saturated > self._replies / 2:
            self._judge(throughput)
        self._begin(at)

    def _judge(self, throughput: float) -> None:
        if self._before is not None and not self._paid(*self._before, throughput):
            self.limit = self._before[0]
            self._before = None
            self._doubling, self._rises = False, not self._rises
            self._resting = HOLD_ROUNDS
        elif self._resting:
            self._resting -= 1
        else:
            self._before = self.limit, throughput
            self.limit = self._stepped()

    def _paid(self, level: int, throughput: float, now: float) -> bool:
        return now / throughput - 1 >= MIN_GAIN * (self.limit / level - 1)

    def _stepped(self) -> int:
        step = self.limit if self._doubling else max(1, round(self.limit * STEP))
        return min(self.limit + step, self._ceiling) if self._rises else max(self.limit - step, 1)
