"""Finds the request rate for a server that answers 429 but announces no limit. Times are passed in.

Additive increase, multiplicative decrease, judged by episodes. An episode begins after the one before it, and ends when
all responses to the requests that were throttled at the same time have come: when the first request after the cool-down
is granted. Whether the 429s are due to a limit, or random overload, is told by `RefusalMemory`: until it shows a limit,
no rate is set, because sending slower would not make random 429s fewer. They count as random, too, if they go on at
rates that the server has allowed before.

A 429 between accepted requests shows that the rate was too high, if only by a little: it falls to 90 %, or to what was
accepted. Episodes in which no request is accepted mean that a sliding window is full: its capacity is what was accepted
in the last minute.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import NamedTuple

from processor.ratelimit.cooldown import FIRST_COOL_DOWN_S
from processor.ratelimit.estimator.send_history import KEPT_ENTRIES, MERGE_S, WINDOW_S
from processor.ratelimit.estimator.server_model import UNLIMITED, ServerModel
from processor.ratelimit.strategies.base import Strategy
from processor.ratelimit.strategies.concurrency_controller import INITIAL_CONCURRENCY
from processor.ratelimit.strategies.pacer import BACK_OFF, Pacer
from processor.ratelimit.strategies.refusal_memory import (
    MIN_EVIDENCE,
    MIN_RATE_SENDS,
    AcceptedCount,
    RefusalMemory,
    ThrottlingEpisode,
)

BURST_REFILL_S = 10.0
"""The first rate: what was sent in a minute before the first 429 was a burst, which the server allows once in this
time. The server's real limit is still unknown."""

RAMP_FACTOR = 2**0.25
"""Growth of the rate with each accepted request, until the second episode."""

INCREASE_PER_MIN = 0.025
"""Growth with each accepted request after the ramp, in requests a minute: 2.5 % in a minute at any rate, and twice that
in each further minute without a 429."""

DECREASE_FACTOR = 1 - BACK_OFF

MAX_RANDOM_EPISODES = 2
"""What is seen in more episodes in a row than this is not random."""

SLOWER_SHARE = (1 + DECREASE_FACTOR) / 2
"""A rate below this share of what the server has allowed cannot be what it refuses."""


class FullWindow(NamedTuple):
    """A sliding window that was full: until then no more is sent than it holds."""

    content: float
    until: float


class AimdRate:
    def __init__(self) -> None:
        self.per_minute: float | None = None
        """The rate. None: no rate is needed, as the server has throttled nothing, or only at random."""
        self.full_window = FullWindow(inf, -inf)
        self._episode = ThrottlingEpisode()
        self._granted = 0
        """Requests of the episode."""
        self._resumed_at = -inf
        """When the first of them was granted."""
        self._doubling_s: float | None = None
        """After random 429s: the number that may be sent doubles in this time, until one is accepted."""
        self._ramping = True
        self._accepted = 0
        """Requests since the last episode."""
        self._sent_in_window = 0.0
        """What had been accepted within a minute when the server began to throttle."""
        self._memory = RefusalMemory()
        self._none_accepted_streak = 0
        """Episodes in a row in which no request was accepted."""
        self._accepted_by = AcceptedCount(0, -inf)
        self._allowed_rates: deque[float] = deque(maxlen=MAX_RANDOM_EPISODES + 1)
        """What was accepted in the last episodes, a minute: a limit that was exhausted before them allows as much."""
        self._first_throttled_rate = 0.0
        """The rate before the current series of decreases."""
        self._futile_decreases = 0
        """Those of them that no limit explains."""
        self._refuted = 0
        """How often 429s turned out to be random that had looked like a limit."""
        self._is_random = False
        """The 429s do not depend on the rate."""

    @property
    def resumes_at(self) -> float:
        """When one more request may be sent, whatever the rate. After random 429s few are sent at first, and twice as
        many each time that no further 429 has come in the time that one takes."""
        if self._doubling_s is None or self._granted < INITIAL_CONCURRENCY:
            return -inf
        return self._resumed_at + self._doubling_s * (self._granted // INITIAL_CONCURRENCY).bit_length()

    @property
    def throttled_until(self) -> float:
        """When an exhausted limit has room again: the throttled request may have counted, too."""
        if self.per_minute is None or not self._episode.throttled or self._episode.is_wait_named:
            return -inf
        return self._episode.last_429_at + 2 * WINDOW_S / self.per_minute

    def on_grant(self, at: float) -> None:
        """A request is granted, which ends an episode with 429s."""
        if self._episode.throttled:
            self._evaluate(self._episode)
            self._episode = ThrottlingEpisode(self._episode.last_429_at)
            self._accepted = self._granted = 0
            self._resumed_at = at
        self._granted += 1

    def on_sent(self, at: float) -> None:
        self._episode.on_sent(at)

    def on_accepted(self, sent_at: float) -> None:
        """Increase the rate, unless the request was sent before the last episode, or one has begun."""
        if self._episode.throttled or sent_at <= self._episode.since:
            return
        self._doubling_s = None
        if self.per_minute is None:
            return
        self._accepted += 1
        minutes = self._accepted / self.per_minute
        increase = self.per_minute * (RAMP_FACTOR - 1) if self._ramping else INCREASE_PER_MIN * 2**minutes
        self.per_minute = min(self.per_minute + increase, UNLIMITED)

    def on_throttled(self, sent_at: float, at: float, sent_in_window: float, *, is_wait_named: bool = False) -> None:
        """``sent_in_window``: the requests that were sent in the minute before ``sent_at`` and not throttled, as far as
        is known yet, and this one. ``is_wait_named``: the server says how long to wait."""
        if sent_at <= self._episode.since:
            return
        if self.per_minute is None or not self._none_accepted_streak:
            before = self._sent_in_window if self._episode.throttled else inf
            self._sent_in_window = min(before, sent_in_window)
        self._episode.on_throttled(sent_at, at, is_wait_named=is_wait_named)

    def _evaluate(self, episode: ThrottlingEpisode) -> None:
        behind = episode.behind_first_429
        self._memory.add(
            up_to_first=episode.sent - behind, behind=behind, refused_behind=min(behind, episode.throttled - 1)
        )
        is_limit = self._memory.shows_limit
        if is_limit:  # chance is not believed for long: the next verdict needs new evidence
            self._forget()
        if self.per_minute is None:
            if is_limit:
                self.per_minute = self._full_window(episode) if episode.none_accepted else self._first_rate(episode)
        elif episode.none_accepted:
            if episode.throttled > 1 or self._none_accepted_streak >= MAX_RANDOM_EPISODES:
                self.per_minute = min(self.per_minute, self._full_window(episode))
        elif is_limit or not self._is_random:
            self.per_minute = self._decreased(episode, self.per_minute)
        is_at_once = self.per_minute is None or self._is_random
        self._doubling_s = max(MERGE_S, episode.longest_refusal_s) if is_at_once else None
        self._none_accepted_streak = self._none_accepted_streak + 1 if episode.none_accepted else 0

    def _forget(self) -> None:
        """Ask for more evidence of a limit, the more often it has misled."""
        self._memory = RefusalMemory(MIN_EVIDENCE * 2**self._refuted)

    def _first_rate(self, episode: ThrottlingEpisode) -> float:
        refilled = self._sent_in_window * WINDOW_S / BURST_REFILL_S
        return max(1.0, DECREASE_FACTOR * min(episode.rate_before_429(), refilled, UNLIMITED))

    def _full_window(self, episode: ThrottlingEpisode) -> float:
        """The rate at which a sliding window stays full."""
        content = max(1.0, self._sent_in_window)
        self._ramping = self._is_random = False
        self._accepted_by = AcceptedCount(0, -inf)
        self._allowed_rates.clear()
        self._futile_decreases = 0
        if not episode.is_wait_named:
            self.full_window = FullWindow(content, episode.last_429_at + WINDOW_S)
        return content

    def _decreased(self, episode: ThrottlingEpisode, rate: float) -> float:
        """A slower rate. If the server has allowed more than the last ones, the rate before them."""
        is_explained = (
            min(rate, episode.recent_rate()) >= SLOWER_SHARE * max(self._allowed_rates, default=0.0)
            or episode.seconds > WINDOW_S  # the last decrease has helped
        )
        if is_explained:
            self._first_throttled_rate, self._futile_decreases = rate, 0
        else:
            self._futile_decreases += 1
        limit = self._limit_after(episode)
        if episode.accepted >= MIN_RATE_SENDS:
            self._allowed_rates.append(episode.count().per_minute(episode.last_sent_at))
        self._is_random = self._ramping = self._futile_decreases >= max(1, MAX_RANDOM_EPISODES - self._refuted)
        if self._is_random:
            self._refuted += 1
            self._forget()
            return self._first_throttled_rate
        return max(
            1.0, min(DECREASE_FACTOR * rate, max(limit, DECREASE_FACTOR * max(self._allowed_rates, default=0.0)))
        )

    def _limit_after(self, episode: ThrottlingEpisode) -> float:
        """An estimate of the limit; inf: the episode does not tell."""
        if self._none_accepted_streak:
            return inf
        if episode.is_exhausted:  # all that came back was used
            self._accepted_by = self._accepted_by.plus(episode.count())
            if self._ramping:  # the rate was a guess, and at low rates a small bucket was full
                return max(self._accepted_by.per_minute(episode.last_sent_at), episode.rate_of_small_bucket())
            at_most = self._accepted_by._replace(accepted=self._accepted_by.accepted + 1)
            return DECREASE_FACTOR * at_most.per_minute(episode.last_sent_at)
        if self._ramping:  # the rate has doubled while the recent requests were sent
            self._accepted_by = AcceptedCount(0, -inf)
            return DECREASE_FACTOR * float(RAMP_FACTOR ** (MIN_RATE_SENDS / 2)) * episode.recent_rate()
        self._accepted_by = episode.count()
        mean = self._accepted_by.per_minute(episode.last_sent_at)
        # A bucket may have held more than came back in this minute; but then it has been used up.
        recent = episode.recent_rate() if episode.seconds > FIRST_COOL_DOWN_S else inf  # the pause is no part of it
        return min(DECREASE_FACTOR * recent, max(mean, DECREASE_FACTOR * self._sent_in_window))


class AimdStrategy(Strategy):
    """For a resource without a known limit: at once, and after 429s evenly, at the rate that `AimdRate` finds."""

    def __init__(self, model: ServerModel, pacer: Pacer) -> None:
        super().__init__(model, pacer)
        self.rate = AimdRate()
        self._throttled_sent_times: deque[float] = deque(maxlen=KEPT_ENTRIES)

    @property
    def pacing_limit(self) -> float:
        return self.rate.per_minute or UNLIMITED

    def earliest(self, cost: float, now: float) -> float:
        rate = self.rate.per_minute
        if rate is None:
            return max(now, self.rate.resumes_at)
        at = max(self._pacer.earliest(cost, rate), self.rate.resumes_at, self.rate.throttled_until)
        content, full_until = self.rate.full_window
        if now >= full_until:
            return at
        history = self._model.history
        return max(at, min(full_until, history.window_frees_at(history.in_window(now) + cost - content, now)))

    def record(self, cost: float, at: float) -> None:
        self.rate.on_grant(at)
        super().record(cost, at)

    def on_sent(self, at: float) -> None:
        self.rate.on_sent(at)

    def on_accepted(self, sent_at: float) -> None:
        self.rate.on_accepted(sent_at)

    def on_unexplained_429(self, sent_at: float, at: float, *, is_wait_named: bool = False) -> None:
        """A request was throttled, and no known limit explains it."""
        history = self._model.history
        self._throttled_sent_times.append(sent_at)
        throttled = sum(sent_at - WINDOW_S < at <= sent_at for at in self._throttled_sent_times)
        sent = history.total_sent_by(sent_at) - history.total_sent_by(sent_at - WINDOW_S)
        self.rate.on_throttled(sent_at, at, sent - throttled + 1, is_wait_named=is_wait_named)
