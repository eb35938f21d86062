"""The number of requests in flight to a server that announces no limit (vLLM, llama.cpp). Times are passed in.

Such a server answers every request, only later. Up to some number in flight, the *knee*, each request takes the same
time, and the throughput grows with the number; beyond it the throughput stays and only the latency grows. Little's law
relates them: ``limit = throughput * latency``, where the latency is counted per token, because replies vary in length.
The knee is therefore the largest throughput times the smallest latency, as in BBR: https://queue.acm.org/detail.cfm?id=3022184

    double ──── throughput did not follow ───► knee estimated ─► hold ─┬─ latency above the base ─► try a cut
      ▲                                                                └─ otherwise ─────────────► try a raise
      └──── a raise was followed by throughput ◄───────────────────────────────────────────────────────┘

A change of the limit is a trial: it lasts one round, which is about one reply time, and is taken back where it did not
help. ``is_fixed``: the user has given the number. It holds from the start, and only refusals lower it, for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

INITIAL_CONCURRENCY = 4
"""Also the least number of replies in a round."""
MIN_STEADY_REPLIES = 16
"""Replies in a round after the doubling has ended, at least: a mean over fewer is too noisy for small steps."""

MIN_GAIN = 0.3
"""A raise is kept where throughput grows by at least this share of it, a cut where it loses no more than that."""

STEP = 0.2
"""Relative change of the limit after the doubling has ended."""
HOLD_ROUNDS = 4
"""Rounds between a raise that did not help and the next one."""


RAISE_REPLIES = 4
"""Replies over which a large raise is spread."""


class Trial(NamedTuple):
    """A change of the limit that is being tried."""

    limit_before: int
    throughput_before: float


class ConcurrencyController:
    """``limit`` is the number of requests that may be in flight. It is evaluated after each round of replies.

    ``on_change``: told of each new limit and the reason, for the log.
    """

    def __init__(
        self,
        max_concurrency: int,
        *,
        is_fixed: bool = False,
        on_change: Callable[[int, str], None] = lambda _limit, _reason: None,
    ) -> None:
        self.limit = max_concurrency if is_fixed else min(INITIAL_CONCURRENCY, max_concurrency)
        self._max_concurrency = max_concurrency
        self._is_fixed = is_fixed
        self._on_change = on_change
        self._is_doubling = not is_fixed
        self._hold_rounds_left = 0
        self._raise_left = 0
        """What is still to be added to the limit."""
        self._trial: Trial | None = None
        self._base_latency_s: float | None = None
        """The least latency per token: that of a server with room."""
        self._had_risen_latency = False
        """Whether the last round has shown that fewer in flight would do."""
        self._start_round(0.0)

    def on_reply(self, *, sent_at: float, at: float, tokens: float, in_flight: int) -> None:
        """A reply is complete. ``in_flight``: requests in flight until now, including this one."""
        is_saturated = in_flight >= self.limit
        if self._raise_left:
            self._raise()
        if sent_at < self._round_started_at or (self._is_fixed and self.limit == self._max_concurrency):
            return
        self._replies += 1
        self._tokens += tokens
        self._latency_s += at - sent_at
        self._saturated += is_saturated
        if self._replies >= self._round_replies:
            self._end_round(at)

    def throttled(self, at: float) -> None:
        """The server refused a request after all, without announcing a limit: two steps back."""
        self._is_doubling, self._trial, self._hold_rounds_left = False, None, 0
        self._change(max(1, int(self.limit / (1 + STEP) ** 2)), "refused")
        self._start_round(at)

    @property
    def _round_replies(self) -> int:
        """While doubling, half of the limit was sent at the start of the round, and answers after one reply time."""
        if self._is_doubling:
            return max(INITIAL_CONCURRENCY, self.limit // 2)
        return max(MIN_STEADY_REPLIES, self.limit)

    def _start_round(self, at: float) -> None:
        self._round_started_at = at
        self._replies = self._saturated = 0
        self._tokens = self._latency_s = 0.0

    def _end_round(self, at: float) -> None:
        latency_s = max(self._latency_s, 1e-9) / max(self._tokens, 1e-9)
        if self._saturated > self._replies / 2:
            self._evaluate(self.limit / latency_s, latency_s)
        self._start_round(at)

    def _evaluate(self, throughput: float, latency_s: float) -> None:
        self._base_latency_s = min(latency_s, self._base_latency_s or latency_s)
        trial, self._trial = self._trial, None
        if trial is not None and not self._helped(trial, throughput):
            self._take_back(trial, throughput, latency_s)
            return
        if trial is not None and self.limit > trial.limit_before and not self._is_fixed:
            was_doubling = self._is_doubling
            self._is_doubling = throughput / trial.throughput_before > 1 + (self.limit / trial.limit_before - 1) / 2
            if was_doubling and not self._is_doubling:
                self._had_risen_latency = True
                return  # a longer round gives the throughput that the next trial is compared with
        knee = throughput * self._base_latency_s
        # In the round in which a server becomes slower, replies that were sent before it did make it look faster than
        # it is. A cut would be compared with that, and taken back: so a second round must show the same.
        had_risen_latency = self._had_risen_latency
        self._had_risen_latency = not self._is_doubling and not self._is_fixed and knee < (1 - STEP) * self.limit
        if self._is_doubling:
            self._try(2 * self.limit, throughput, "throughput follows")
        elif self._had_risen_latency:
            if had_risen_latency:
                self._try(round(knee), throughput, "latency rose")
        elif self._hold_rounds_left:
            self._hold_rounds_left -= 1
        else:
            self._try(self.limit + max(1, round(STEP * self.limit)), throughput, "trying more")

    def _helped(self, trial: Trial, throughput: float) -> bool:
        gain, change = throughput / trial.throughput_before - 1, self.limit / trial.limit_before - 1
        return self._is_fixed or gain >= MIN_GAIN * change

    def _take_back(self, trial: Trial, throughput: float, latency_s: float) -> None:
        """End a trial that did not help."""
        if self.limit > trial.limit_before:
            self._is_doubling = False
            self._hold_rounds_left = HOLD_ROUNDS
            knee = round(throughput * (self._base_latency_s or latency_s))
            least = round((1 - STEP) * trial.limit_before)
            self._change(min(max(knee, least, 1), self.limit), "throughput did not follow")
        else:
            # Requests take as long with fewer in flight: the server itself has become slower.
            self._base_latency_s = latency_s
            self._change(trial.limit_before, "a cut lost throughput")

    def _try(self, limit: int, throughput: float, reason: str) -> None:
        limit = max(1, min(limit, self._max_concurrency))
        if limit != self.limit:
            self._trial = Trial(self.limit, throughput)
            self._change(limit, reason)

    def _change(self, limit: int, reason: str) -> None:
        if limit != self.limit:
            self._raise_left = max(0, limit - self.limit)
            self.limit = min(limit, self.limit)
            self._raise()
            self._on_change(limit, reason)

    def _raise(self) -> None:
        """Raise the limit by a few, now and with each further reply: where a server has a limit that is not known yet,
        all that is sent at once beyond it is refused."""
        step = min(self._raise_left, max(INITIAL_CONCURRENCY, self.limit // RAISE_REPLIES))
        self.limit += step
        self._raise_left -= step
