"""The number of requests in flight to a server that announces no limit (vLLM, llama.cpp). Times are passed in.

Such a server answers every request, only later. Up to some number in flight, the *knee*, each request takes the same
time, and the throughput grows with the number; beyond it the throughput stays and only the latency grows. Little's law
relates them: ``limit = throughput * latency``, where the latency is counted for each unit of the replies' size.
The knee is therefore the largest throughput times the smallest latency, as in BBR: https://queue.acm.org/detail.cfm?id=3022184

    raise ─┬─ replies begin in time ────► raise once more
           ├─ throughput followed ──────► raise by twice the share, up to the double
           ├─ followed in part ─────────► cut to the knee
           └─ did not follow ───────────► back to the knee, hold
    cut ───┬─ throughput stayed ────────► hold
           └─ lost throughput ──────────► take it back
    hold ──┬─ latency above the least ──► cut to the knee
           └─ otherwise, after a while ─► raise by a fifth, or cut by a fifth

Each change of the limit is a trial, judged after a round, which is about one reply time. It starts with doubling.
Some servers have no knee: more in flight raises the throughput and the latency. A cut to the knee shows it.

``is_fixed``: the user has given the number. It holds from the start, and only refusals lower it, for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from processor.ratelimit.strategies.reply_round import Measured, ReplyRound, ReplySize

INITIAL_CONCURRENCY = 4
"""Also the least number of replies in a round."""
MIN_STEADY_REPLIES = 4 * INITIAL_CONCURRENCY
"""Replies in a round of small changes, at least: a mean over fewer is too noisy."""
MIN_WINDOW_REPLIES = 2 * INITIAL_CONCURRENCY

STEP = 0.2
"""Relative change of the limit after the doubling has ended, and what counts as a difference elsewhere."""
MIN_GAIN = 0.3
"""A raise is kept where throughput grows by at least this share of it, a cut where it loses no more than that."""
FOLLOWING_GAIN = 1 - STEP
"""The throughput has followed a raise if it grew by this share of it."""
PARTIAL_GAIN = 0.5
"""Doubling goes on from here at a server without a knee, and a cut is taken back where the throughput before it was
measured soon after a raise."""

HOLD_ROUNDS = 8
"""Rounds between a trial that did not help and the next one."""
RAISE_REPLIES = 4
"""Replies over which a large raise is spread."""


class Trial(NamedTuple):
    """A change of the limit that is being tried."""

    before: Measured
    was_steady: bool
    """Whether ``before`` was measured in a round without a large raise."""
    is_probe: bool = False
    """Whether it is a cut that no latency suggests: the least latency may have been that of a slower server."""


class ConcurrencyController:
    """``limit`` is the number of requests that may be in flight. It is evaluated after each round of replies.

    ``at``: when the first request is sent. ``on_change``: told of each new limit and the reason, for the log.
    """

    def __init__(
        self,
        max_concurrency: int,
        *,
        is_fixed: bool = False,
        at: float = 0.0,
        on_change: Callable[[int, str], None] = lambda _limit, _reason: None,
    ) -> None:
        self.limit = max_concurrency if is_fixed else min(INITIAL_CONCURRENCY, max_concurrency)
        self._max_concurrency = max_concurrency
        self._is_fixed = is_fixed
        self._on_change = on_change
        self._step = STEP if is_fixed else 1.0
        """The share of the next raise."""
        self._raise_left = 0
        """What is still to be added to the limit."""
        self._trial: Trial | None = None
        self._size = ReplySize()
        self._base: Measured | None = None
        """The round with the least latency: that of a server with room."""
        self._slows_gradually = False
        """Whether the server has no knee: a cut to where it should be has lost throughput."""
        self._had_risen_latency = False
        """Whether the last round has shown that fewer in flight would do."""
        self._hold_rounds_left = 0
        self._is_probe_next = False
        """Whether the next trial is a probe, and not a raise: they take turns."""
        self._answer_s = self._reply_s = 0.0
        """How long the last raise took to be answered for which there was room, and a reply to it. 0: not known."""
        self._begin_s = 0.0
        """How long the last raise for which there was room took until all of it had begun. 0: not known."""
        self._all_begun_s = 0.0
        """The same of the raise of this round; 0: not all has."""
        self._is_raised_early = False
        """Whether the limit has been raised again before the throughput was known."""
        self._round = ReplyRound(at)

    def on_first_token(self, *, sent_at: float, at: float) -> bool:
        """A reply has begun. Returns whether the limit was raised.

        If all that the last raise added has begun as soon as that of the raise before it, there is room: the limit is
        raised again, before the throughput is known. Only once, as some servers begin all replies at once, and then
        take longer for each.
        """
        was_raised = self._raise_left > 0
        if was_raised:
            self._raise()
        if self._is_steady or self._slows_gradually or self._round.add_begun(sent_at) != self._raised:
            return was_raised
        self._all_begun_s = begun_s = self._round.seconds(at)
        may_raise = not self._is_raised_early and 2 * begun_s <= self._answer_s
        if not may_raise or self._trial is None or begun_s > (1 + STEP) * self._begin_s:
            return was_raised
        self._is_raised_early = True
        self._change(min(2 * self.limit, self._max_concurrency), "replies begin in time")
        self._start_round(at)
        return True

    def on_reply(self, *, sent_at: float, at: float, tokens: float, in_flight: int) -> None:
        """A reply is complete. ``in_flight``: requests in flight until now, including this one."""
        is_saturated = in_flight >= self.limit
        if self._raise_left:
            self._raise()
        if self._is_fixed and self.limit == self._max_concurrency:
            return
        self._round.add(sent_at=sent_at, at=at, tokens=tokens, is_saturated=is_saturated)
        measured = self._after_small_change() if self._is_steady else self._after_large_raise(at)
        if measured is not None:
            if self._round.is_saturated:
                self._evaluate(measured)
            self._start_round(at)

    def throttled(self, at: float) -> None:
        """The server refused a request after all, without announcing a limit: two steps back."""
        self._step, self._trial, self._hold_rounds_left = STEP, None, 0
        self._change(max(1, int(self.limit / (1 + STEP) ** 2)), "refused")
        self._start_round(at)

    def pause(self, until: float) -> None:
        """Nothing is sent before this time: what the replies show until then says nothing of the limit."""
        self._start_round(until)

    # ------------------------------------------------------------ rounds

    @property
    def _is_steady(self) -> bool:
        return self._step <= STEP

    @property
    def _has_window(self) -> bool:
        return not (self._is_steady or self._slows_gradually) and self._answer_s > 0

    @property
    def _raised(self) -> int:
        """What the last large raise has added, at most."""
        return max(INITIAL_CONCURRENCY, self.limit // 2)

    def _start_round(self, at: float) -> None:
        self._all_begun_s = 0.0
        if self._has_window:
            self._round = ReplyRound(
                at,
                window_from_s=self._answer_s,
                reply_s=self._reply_s,
                min_window_replies=max(MIN_WINDOW_REPLIES, self._raised),
            )
        else:
            self._round = ReplyRound(at)

    def _after_small_change(self) -> Measured | None:
        """What the round shows, once as many replies have come as requests are allowed."""
        if self._round.replies < max(MIN_STEADY_REPLIES, self.limit):
            return None
        return self._round.measured(self.limit, in_window=False)

    def _after_large_raise(self, at: float) -> Measured | None:
        """What the round shows, once all that was added is answered in time, or else once the window has ended."""
        round_ = self._round
        is_in_time = not self._has_window or round_.seconds(at) <= (1 + STEP) * self._answer_s
        if is_in_time and round_.replies >= self._raised:
            measured = round_.measured(self.limit, in_window=False)
            self._answer_s, self._reply_s = round_.seconds(at), measured.sums.mean_latency_s
            self._begin_s = self._all_begun_s
            return measured
        if is_in_time or not round_.replies or not round_.has_window_ended(at):
            return None
        return round_.measured(self.limit, in_window=True)

    # ------------------------------------------------------------ decisions

    def _evaluate(self, now: Measured) -> None:
        self._size.add(now.sums)
        fixed_part = self._size.fixed_part
        if self._base is None or now.latency_s(fixed_part) < self._base.latency_s(fixed_part):
            self._base = now
        trial, self._trial, self._is_raised_early = self._trial, None, False
        if trial is None or self._is_fixed:
            self._without_trial(now)
        elif self.limit > trial.before.limit:
            self._after_raise(trial, now)
        else:
            self._after_cut(trial, now)

    def _after_raise(self, trial: Trial, now: Measured) -> None:
        gain = self._gain(trial, now.by_latency(self._size.fixed_part))
        knee = max(self._knee(now), round((1 - STEP) * trial.before.limit), 1)
        if gain >= (PARTIAL_GAIN if self._slows_gradually else FOLLOWING_GAIN):
            self._step = min(1.0, 2 * self._step)
            self._try_more(now, "throughput follows")
        elif gain < MIN_GAIN:
            self._step = STEP
            self._hold_rounds_left = HOLD_ROUNDS
            self._is_probe_next = True
            self._change(min(knee, self.limit), "throughput did not follow")
        elif not self._slows_gradually:
            self._hold_rounds_left = HOLD_ROUNDS if self._is_steady else 0
            self._try(min(knee, self.limit), now, "throughput followed in part")
            self._step = STEP
        else:
            self._step = STEP

    def _after_cut(self, trial: Trial, now: Measured) -> None:
        fixed_part = self._size.fixed_part
        if self._gain(trial, now.delivered(fixed_part)) <= (MIN_GAIN if trial.was_steady else PARTIAL_GAIN):
            self._slows_gradually = False
            if trial.is_probe:
                self._hold_rounds_left, self._is_probe_next = 0, True
            self._without_trial(now)
            return
        latency_before_s = trial.before.limit / trial.before.delivered(fixed_part)
        if not trial.was_steady:
            # What the throughput was before is not certain: one more round will show whether the latency has risen.
            self._had_risen_latency = True
        elif self._base is not None and latency_before_s > (1 + STEP) * self._base.latency_s(fixed_part):
            # The server has no knee, or has become slower.
            self._base = now
            self._slows_gradually = True
            self._hold_rounds_left = 0
        self._change(trial.before.limit, "a cut lost throughput")

    def _without_trial(self, now: Measured) -> None:
        """Decide what to try next."""
        knee, had_risen_latency = self._knee(now), self._had_risen_latency
        self._had_risen_latency = self._is_steady and not self._is_fixed and knee < (1 - STEP) * self.limit
        if self._had_risen_latency:
            # In the round in which a server becomes slower, replies that were sent before it did make it look faster
            # than it is. A cut would be compared with that, and taken back: so a second round must show the same.
            if had_risen_latency:
                self._try(knee, now, "latency rose")
        elif self._hold_rounds_left:
            self._hold_rounds_left -= 1
        elif self._is_probe_next:
            self._hold_rounds_left, self._is_probe_next = HOLD_ROUNDS, False
            self._try(self.limit - max(1, round(STEP * self.limit)), now, "trying fewer", is_probe=True)
        else:
            self._try_more(now, "trying more" if self._is_steady else "throughput follows")

    def _knee(self, now: Measured) -> int:
        """The throughput times the least latency."""
        fixed_part = self._size.fixed_part
        return round(now.delivered(fixed_part) * (self._base or now).latency_s(fixed_part))

    def _gain(self, trial: Trial, throughput: float) -> float:
        """The change of the throughput, as a share of the change of the limit."""
        before = trial.before.delivered(self._size.fixed_part)
        return (throughput / before - 1) / (self.limit / trial.before.limit - 1)

    # ------------------------------------------------------------ changes

    def _try_more(self, now: Measured, reason: str) -> None:
        self._try(self.limit + max(1, round(self._step * self.limit)), now, reason)

    def _try(self, limit: int, now: Measured, reason: str, *, is_probe: bool = False) -> None:
        limit = max(1, min(limit, self._max_concurrency))
        if limit != self.limit:
            self._trial = Trial(now, self._is_steady, is_probe)
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
