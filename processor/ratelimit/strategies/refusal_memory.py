"""Tells a limit from random overload, by one statistical criterion. Pure.

Random refusals have no memory: behind a refused request as many are refused as elsewhere. Behind the first request that
a limit refuses, far more are, because the limit stays exhausted for a while.

So the requests are counted in two samples: up to the first refusal of an episode, and behind it. With a share p refused
in the first sample, and q of m requests in the second, the logarithm of the likelihood ratio is

    G = m (q ln(q / p) + (1 - q) ln((1 - q) / (1 - p)))

and if the refusals are random, a share of q or more has a probability of at most e^-G (Chernoff's bound).
"""

from __future__ import annotations

from collections import deque
from math import inf, log
from typing import NamedTuple

from processor.ratelimit.cooldown import FIRST_COOL_DOWN_S
from processor.ratelimit.estimator.decaying_value import MEAN_OVER_REQUESTS
from processor.ratelimit.estimator.send_history import KEPT_ENTRIES, WINDOW_S
from processor.ratelimit.strategies.pacer import PER_SECOND_BUCKET_S

MIN_EVIDENCE = 4.0
"""G from which refusals are due to a limit: chance alone reaches it at most once in fifty times."""

MAX_RANDOM_SHARE = 0.22
"""More than this share is never refused at random: the criterion compares with at most this."""

MIN_RATE_SENDS = 8
"""Requests over which a rate is measured, at least."""


class AcceptedCount(NamedTuple):
    """How many requests have been accepted since the server last throttled, or since the cool-down after that."""

    accepted: int
    since: float

    def plus(self, later: AcceptedCount) -> AcceptedCount:
        return AcceptedCount(self.accepted + later.accepted, self.since) if self.accepted else later

    def per_minute(self, until: float) -> float:
        return self.accepted * WINDOW_S / max(1e-3, until - self.since)


class ThrottlingEpisode:
    """The requests sent since the last episode, and which of them were throttled. Rates are per minute."""

    def __init__(self, since: float = -inf) -> None:
        self.since = since
        self.sent = 0
        self.last_429_at = self.last_sent_at = -inf
        self.longest_refusal_s = 0.0
        """The longest time from sending a request until it was throttled."""
        self.is_wait_named = False
        """Whether the server has said how long to wait."""
        self._first_sent_at = inf
        self._sent_times: deque[float] = deque(maxlen=KEPT_ENTRIES)
        """The last of them."""
        self._throttled_sent_times: list[float] = []

    def on_sent(self, at: float) -> None:
        if at < self._first_sent_at:
            self._first_sent_at = at
        self.last_sent_at = at
        self._sent_times.append(at)
        self.sent += 1

    def on_throttled(self, sent_at: float, at: float, *, is_wait_named: bool) -> None:
        self._throttled_sent_times.append(sent_at)
        self.last_429_at = at
        self.longest_refusal_s = max(self.longest_refusal_s, at - sent_at)
        self.is_wait_named |= is_wait_named

    @property
    def seconds(self) -> float:
        return self.last_429_at - self._first_sent_at

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
    def is_exhausted(self) -> bool:
        """Whether more was throttled than random overload explains."""
        return self.throttled > MAX_RANDOM_SHARE * self.sent

    @property
    def behind_first_429(self) -> int:
        """The requests behind the first throttled one, including those sent at the same time."""
        first_at = min(self._throttled_sent_times)
        return max(0, sum(at >= first_at for at in self._sent_times) - 1)

    def count(self) -> AcceptedCount:
        return AcceptedCount(self.accepted, max(self.since, self._first_sent_at - FIRST_COOL_DOWN_S))

    def recent_rate(self) -> float:
        """Of the last requests, those of a second at least, with the cool-down before the first one."""
        times = self._sent_times
        count = max(MIN_RATE_SENDS, sum(at > times[-1] - FIRST_COOL_DOWN_S for at in times))
        if count < len(times):
            return count * WINDOW_S / (times[-1] - times[-1 - count])
        return len(times) * WINDOW_S / (times[-1] - times[0] + FIRST_COOL_DOWN_S)

    def rate_of_small_bucket(self) -> float:
        """Of a bucket of one second that was full a second before the last request, and is empty now."""
        since = self.last_sent_at - PER_SECOND_BUCKET_S
        sent, throttled = (sum(at > since for at in times) for times in (self._sent_times, self._throttled_sent_times))
        return (sent - throttled) * WINDOW_S / (2 * PER_SECOND_BUCKET_S)

    def rate_before_429(self) -> float:
        """Of the last requests before the first throttled one, and of that one. inf: not known."""
        first_at = min(self._throttled_sent_times)
        before = [at for at in self._sent_times if at <= first_at][-MIN_RATE_SENDS:]
        return WINDOW_S * (len(before) - 1) / max(1e-3, before[-1] - before[0]) if len(before) > 1 else inf


class RefusalMemory:
    """Counts the requests of episodes; older ones count less."""

    def __init__(self, min_evidence: float = MIN_EVIDENCE) -> None:
        self._min_evidence = min_evidence
        self._first_refused = self._up_to_first = 0.0
        self._refused_behind = self._behind = 0.0

    def add(self, *, up_to_first: int, behind: int, refused_behind: int) -> None:
        """Add an episode: the requests up to its first refusal (0: it began with one), those behind, and how many of
        these were refused."""
        weight = 1 - 1 / MEAN_OVER_REQUESTS
        self._first_refused = weight * self._first_refused + (up_to_first > 0)
        self._up_to_first = weight * self._up_to_first + up_to_first
        self._behind = weight * self._behind + behind
        self._refused_behind = weight * self._refused_behind + refused_behind

    @property
    def shows_limit(self) -> bool:
        return self.evidence >= self._min_evidence

    @property
    def refused_share(self) -> float:
        """Of all requests."""
        return (self._first_refused + self._refused_behind) / max(1.0, self._up_to_first + self._behind)

    @property
    def evidence(self) -> float:
        """G, or 0 where no more are refused behind a refusal than elsewhere, and no more than chance would in all."""
        # One request more, refused: few requests say little.
        elsewhere = min(MAX_RANDOM_SHARE, (self._first_refused + 1) / (self._up_to_first + 1))
        return max(
            _evidence(self._refused_behind, self._behind, elsewhere),
            _evidence(self._first_refused + self._refused_behind, self._up_to_first + self._behind, MAX_RANDOM_SHARE),
        )


def _evidence(refused: float, requests: float, expected: float) -> float:
    """G for so many refused requests, where this share is expected."""
    if refused <= expected * requests:
        return 0.0
    share = refused / requests
    accepted = (1 - share) * log((1 - share) / (1 - expected)) if share < 1 else 0.0
    return requests * (share * log(share / expected) + accepted)
