"""Finds the request rate for a server that answers 429 but announces no limit. Times are passed in.

Additive increase, multiplicative decrease, judged by episodes. An episode begins after the one before it, and ends when
all responses to the requests that were throttled at the same time have come: when the first request after the cool-down
is granted. Whether the 429s are due to a limit, or random overload, is told by `RefusalMemory`: until it shows a limit,
no rate is set, because sending slower would not make random 429s fewer. They count as random, too, if they go on while
the rate falls.

A 429 between accepted requests shows that the rate was too high, if only by a little: it falls to 90 % of what was
accepted. Episodes in which no request is accepted mean that a sliding window is full: its capacity is what was accepted
in the last minute.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from math import inf

from processor.ratelimit.cooldown import FIRST_COOL_DOWN_S
from processor.ratelimit.estimator.send_history import KEPT_ENTRIES, WINDOW_S
from processor.ratelimit.estimator.server_model import UNLIMITED, ServerModel
from processor.ratelimit.strategies.base import Strategy
from processor.ratelimit.strategies.pacer import BACK_OFF, Pacer
from processor.ratelimit.strategies.refusal_memory import MAX_RANDOM_SHARE, RefusalMemory

BURST_REFILL_S = 10.0
"""The first rate: what was sent in a minute before the first 429 was a burst, which the server allows once in this
time. The server's real limit is still unknown."""

RAMP_FACTOR = 2**0.25
"""Growth of the rate with each accepted request, until the second episode."""

INCREASE_PER_MIN = 0.06
"""Growth with each accepted request after the ramp, in requests a minute: 6 % in a minute at any rate, and twice that
in each further minute without a 429."""

DECREASE_FACTOR = 1 - BACK_OFF

MAX_RANDOM_EPISODES = 2
"""What is seen in more episodes in a row than this is not random."""

SLOWER_SHARE = (1 + DECREASE_FACTOR) / 2
"""A rate below this share of the last throttled rate is slower than it."""
MAX_FUTILE_DECREASES = 4
"""After more throttled episodes than this at ever slower rates, the 429s do not depend on the rate, unless more
requests than at first were accepted in between."""

MIN_RATE_SENDS = 8
"""Requests over which the rate before a 429 is measured."""
ACCEPTED_RATE_SENDS = 24
"""Requests over which the accepted rate is measured."""


class AimdRate:
    def __init__(self) -> None:
        self.per_minute: float | None = None
        """The rate. None: no rate is needed, as the server has throttled nothing, or only at random."""
        self._episode = ThrottlingEpisode()
        self._ramping = True
        self._accepted = 0
        """Requests since the last episode."""
        self._sent_in_window = 0.0
        """What had been accepted within a minute when the server began to throttle."""
        self._memory = RefusalMemory()
        self._short_episodes: list[ThrottlingEpisode] = []
        """Those in a row, since the last one, that were too short to tell the accepted rate."""
        self._none_accepted_streak = 0
        """Episodes in a row in which no request was accepted."""
        self._throttled_rate = 0.0
        """The last rate that was too high."""
        self._first_throttled_rate = 0.0
        """The rate before the current series of decreases."""
        self._accepted_per_decrease: list[int] = []
        """Accepted requests before each decrease of the series."""
        self._is_random = False
        """The 429s do not depend on the rate."""

    def on_grant(self) -> None:
        """A request is granted, which ends an episode with 429s."""
        if self._episode.throttled:
            self._evaluate(self._episode)
            self._episode = ThrottlingEpisode(self._episode.last_429_at)
            self._accepted = 0

    def on_sent(self, at: float) -> None:
        self._episode.on_sent(at)

    def on_accepted(self, sent_at: float) -> None:
        """Increase the rate, unless the request was sent before the last episode, or one has begun."""
        if self.per_minute is None or self._episode.throttled or sent_at <= self._episode.since:
            return
        self._accepted += 1
        minutes = self._accepted / self.per_minute
        increase = self.per_minute * (RAMP_FACTOR - 1) if self._ramping else INCREASE_PER_MIN * 2**minutes
        self.per_minute = min(self.per_minute + increase, UNLIMITED)

    def on_throttled(self, sent_at: float, at: float, sent_in_window: float) -> None:
        """``sent_in_window``: the requests that were sent in the minute before ``sent_at`` and not throttled, and this
        one."""
        if sent_at <= self._episode.since:
            return
        if not self._episode.throttled and (self.per_minute is None or not self._none_accepted_streak):
            self._sent_in_window = sent_in_window
        self._episode.on_throttled(sent_at, at)

    def _evaluate(self, episode: ThrottlingEpisode) -> None:
        behind = episode.behind_first_429
        self._memory.add(
            up_to_first=episode.sent - behind, behind=behind, refused_behind=min(behind, episode.throttled - 1)
        )
        is_limit = self._memory.shows_limit
        if is_limit:  # chance is not believed for long: the next verdict needs new evidence
            self._memory = RefusalMemory()
        if self.per_minute is None:
            if is_limit:
                refilled = self._sent_in_window * WINDOW_S / BURST_REFILL_S
                self.per_minute = max(1.0, DECREASE_FACTOR * min(episode.rate_before_429(), refilled, UNLIMITED))
        elif episode.none_accepted and (episode.throttled > 1 or self._none_accepted_streak >= MAX_RANDOM_EPISODES):
            self.per_minute = min(self.per_minute, max(1.0, self._sent_in_window))
            self._ramping = self._is_random = False
            self._short_episodes.clear()
            self._accepted_per_decrease.clear()
        elif is_limit or not self._is_random:
            self.per_minute = self._decreased(episode, self.per_minute, exhausted=is_limit)
        self._none_accepted_streak = self._none_accepted_streak + 1 if episode.none_accepted else 0

    def _decreased(self, episode: ThrottlingEpisode, rate: float, *, exhausted: bool) -> float:
        """A slower rate; if slower rates have not helped, the rate before all of them."""
        accepted_rate = episode.accepted_rate(self._short_episodes)
        if accepted_rate < inf:
            self._short_episodes.clear()
        elif episode.sent:
            self._short_episodes.append(episode)
        if exhausted or rate >= SLOWER_SHARE * self._throttled_rate:
            self._first_throttled_rate = rate
            self._accepted_per_decrease.clear()
        self._throttled_rate = rate
        self._accepted_per_decrease.append(episode.accepted)
        is_futile = len(self._accepted_per_decrease) > MAX_FUTILE_DECREASES
        self._is_random = self._ramping = (
            is_futile and not _grows(self._accepted_per_decrease) and self._memory.refused_share <= MAX_RANDOM_SHARE
        )
        if self._is_random:
            return self._first_throttled_rate
        return DECREASE_FACTOR * max(min(rate, accepted_rate), 1.0)


class ThrottlingEpisode:
    """The requests sent since the last episode, and which of them were throttled. Rates are per minute."""

    def __init__(self, since: float = -inf) -> None:
        self.since = since
        self.sent = 0
        self.last_429_at = -inf
        self._sent_times: deque[float] = deque(maxlen=KEPT_ENTRIES)
        """The last of them."""
        self._throttled_sent_times: list[float] = []

    def on_sent(self, at: float) -> None:
        self._sent_times.append(at)
        self.sent += 1

    def on_throttled(self, sent_at: float, at: float) -> None:
        self._throttled_sent_times.append(sent_at)
        self.last_429_at = at

    @property
    def throttled(self) -> int:
        return len(self._throttled_sent_times)

    @property
    def accepted(self) -> int:
        return self.sent - self.throttled

    @property
    def none_accepted(self) -> bool:
        return self.accepted <= 0

    @property
    def behind_first_429(self) -> int:
        """The requests behind the first throttled one, including those sent at the same time."""
        first_at = min(self._throttled_sent_times)
        return max(0, sum(at >= first_at for at in self._sent_times) - 1)

    def accepted_rate(self, before: Sequence[ThrottlingEpisode] = ()) -> float:
        """Of the last accepted requests, including the cool-down before them if it was recent. inf: not known.

        ``before``: earlier episodes in a row that were too short to tell.
        """
        if sum(one.sent for one in (*before, self)) < MIN_RATE_SENDS:
            return inf
        accepted = [at for one in (*before, self) for at in one.accepted_times()]
        first = (*before, self)[0]
        since = max(first.since, first._sent_times[0] - FIRST_COOL_DOWN_S)
        if len(accepted) > ACCEPTED_RATE_SENDS:
            since = accepted[-ACCEPTED_RATE_SENDS - 1]
            del accepted[:-ACCEPTED_RATE_SENDS]
        return len(accepted) * WINDOW_S / max(1e-3, self._sent_times[-1] - since)

    def accepted_times(self) -> list[float]:
        throttled, accepted = Counter(self._throttled_sent_times), []
        for at in self._sent_times:
            if throttled[at]:
                throttled[at] -= 1
            else:
                accepted.append(at)
        return accepted

    def rate_before_429(self) -> float:
        """Of the last requests before the first throttled one, and of that one. inf: not known."""
        first_at = min(self._throttled_sent_times)
        before = [at for at in self._sent_times if at <= first_at][-MIN_RATE_SENDS:]
        return WINDOW_S * (len(before) - 1) / max(1e-3, before[-1] - before[0]) if len(before) > 1 else inf


def _grows(accepted: list[int]) -> bool:
    """Whether more requests were accepted before each of the later decreases than before the earlier ones."""
    half = len(accepted) // 2
    return sum(accepted[-half:]) > sum(accepted[:half])


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
        return now if rate is None else self._pacer.earliest(cost, rate)

    def record(self, cost: float, at: float) -> None:
        self.rate.on_grant()
        super().record(cost, at)

    def on_sent(self, at: float) -> None:
        self.rate.on_sent(at)

    def on_accepted(self, sent_at: float) -> None:
        self.rate.on_accepted(sent_at)

    def on_unexplained_429(self, sent_at: float, at: float) -> None:
        """A request was throttled, and no known limit explains it."""
        history = self._model.history
        self._throttled_sent_times.append(sent_at)
        throttled = sum(at > sent_at - WINDOW_S for at in self._throttled_sent_times)
        sent = history.total_sent_by(sent_at) - history.total_sent_by(sent_at - WINDOW_S)
        self.rate.on_throttled(sent_at, at, sent - throttled + 1)
