"""The best number of requests in flight for a server that never answers 429 (vLLM, llama.cpp). Times are passed in.

Such a server answers every request, only later: its throughput grows with the number in flight until it is busy, and
from there on only the latency grows. The controller moves to that point from above or below: it raises the limit
while throughput grows with it, doubling it at first, and lowers it while that costs next to no throughput.
"""

from __future__ import annotations

INITIAL_CONCURRENCY = 8
MIN_ROUND_REPLIES = 32
"""Lengths of replies vary: a mean over fewer of them is too noisy."""

MIN_GAIN = 0.3
"""A raise is kept where throughput grows by at least this share of it, a cut where it loses no more than that."""

STEP = 0.2
"""Relative change of the limit after the doubling has ended."""
HOLD_ROUNDS = 4
"""Rounds at a limit that a step away from it did not improve, before a step in the other direction."""


class ConcurrencyController:
    """``limit`` is the number of requests that may be in flight. It is evaluated after each round of replies."""

    def __init__(self, max_concurrency: int, *, initial: int = INITIAL_CONCURRENCY) -> None:
        self.limit = min(initial, max_concurrency)
        self._max_concurrency = max_concurrency
        self._doubling = True
        self._growing = True
        self._hold_rounds_left = 0
        self._baseline: tuple[int, float] | None = None
        """Limit and throughput before the step that is being tried."""
        self._start_round(0.0)

    def on_reply(self, *, sent_at: float, at: float, tokens: float, in_flight: int) -> None:
        """A reply is complete. ``in_flight``: requests in flight until now, including this one."""
        if sent_at < self._round_started_at:
            return
        self._replies += 1
        self._tokens += tokens
        self._latency_s += at - sent_at
        self._saturated += in_flight >= self.limit
        if self._replies >= max(MIN_ROUND_REPLIES, 2 * self.limit):
            self._end_round(at)

    def throttled(self, at: float) -> None:
        """The server answered 429 after all, without announcing a limit."""
        self.limit = max(1, self.limit // 2)
        self._baseline = None
        self._doubling, self._growing = False, True
        self._hold_rounds_left = HOLD_ROUNDS
        self._start_round(at)

    def _start_round(self, at: float) -> None:
        self._round_started_at = at
        self._replies = self._saturated = 0
        self._tokens = self._latency_s = 0.0

    def _end_round(self, at: float) -> None:
        # Little's law: the number in flight over the time that each token takes. Steadier than counting by the clock.
        throughput = self.limit * self._tokens / max(self._latency_s, 1e-9)
        if self._saturated > self._replies / 2:
            self._evaluate(throughput)
        self._start_round(at)

    def _evaluate(self, throughput: float) -> None:
        if self._baseline is not None and not self._improved(*self._baseline, throughput):
            self.limit = self._baseline[0]
            self._baseline = None
            self._doubling, self._growing = False, not self._growing
            self._hold_rounds_left = HOLD_ROUNDS
        elif self._hold_rounds_left:
            self._hold_rounds_left -= 1
        else:
            self._baseline = self.limit, throughput
            self.limit = self._next_limit()

    def _improved(self, limit_before: int, throughput_before: float, throughput: float) -> bool:
        return throughput / throughput_before - 1 >= MIN_GAIN * (self.limit / limit_before - 1)

    def _next_limit(self) -> int:
        step = self.limit if self._doubling else max(1, round(self.limit * STEP))
        return min(self.limit + step, self._max_concurrency) if self._growing else max(self.limit - step, 1)
