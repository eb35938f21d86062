"""What the replies of a round show. Times are passed in.

The throughput is estimated in two ways. By Little's law it is ``limit / latency``, with the latency of the replies to
requests sent in the round. Where requests queue at the server, this estimate is too high: the replies that arrive first
have not queued. So a round may also have a window of one reply time, in which all replies are counted, whenever their
requests were sent. Their number is the throughput of the server, however long the requests queued.

Replies vary in length, so the latency is counted for each unit of their size (``ReplySize``).
"""

from __future__ import annotations

from typing import NamedTuple

MIN_DELIVERED = 0.75
"""The least throughput in a window, as a share of what the latency shows. Where all that a raise has added waits, it
waits for 0 to 1 reply time and comes after 1 to 2, which is 1.5 in the mean, but 2 for what is sent later."""

MAX_FIXED_PART = 100.0
"""Times the tokens of a mean reply: above that, their number makes no difference."""


class Sums(NamedTuple):
    """The sums over replies, and of the squares and products of their tokens and latencies."""

    replies: int = 0
    tokens: float = 0.0
    latency_s: float = 0.0
    squared_tokens: float = 0.0
    tokens_by_latency: float = 0.0

    def plus(self, tokens: float, latency_s: float) -> Sums:
        return Sums(
            self.replies + 1,
            self.tokens + tokens,
            self.latency_s + latency_s,
            self.squared_tokens + tokens * tokens,
            self.tokens_by_latency + tokens * latency_s,
        )

    @property
    def mean_tokens(self) -> float:
        return self.tokens / self.replies

    @property
    def mean_latency_s(self) -> float:
        return self.latency_s / self.replies

    def size(self, fixed_part: float) -> float:
        return self.tokens + fixed_part * self.replies


class ReplySize:
    """Finds how much of a server's time a reply takes, apart from how busy the server is: its tokens and a fixed part,
    which is what the time until the first token is worth.

    ``latency = busy * (fixed_part + tokens)`` is fitted by least squares within the rounds so far, each divided by its
    mean latency, since how busy the server is differs from round to round.
    """

    def __init__(self) -> None:
        self._replies = 0
        self._tokens = self._variance = self._covariance = 0.0

    def add(self, sums: Sums) -> None:
        self._replies += sums.replies
        self._tokens += sums.tokens
        self._variance += sums.squared_tokens - sums.tokens * sums.mean_tokens
        self._covariance += (sums.tokens_by_latency - sums.latency_s * sums.mean_tokens) / max(
            1e-9, sums.mean_latency_s
        )

    @property
    def fixed_part(self) -> float:
        """In tokens; 0 where all replies are as long."""
        mean_tokens = self._tokens / self._replies
        if self._variance <= 1e-6 * self._tokens * mean_tokens:
            return 0.0
        if self._covariance <= 0:
            return MAX_FIXED_PART * mean_tokens
        return max(0.0, min(MAX_FIXED_PART * mean_tokens, self._variance / self._covariance - mean_tokens))


class Measured(NamedTuple):
    """What a round has shown. Rounds are compared with a fixed part of the size of replies that is found later, too."""

    limit: int
    sums: Sums
    window: Sums
    window_s: float
    """0: there was no window."""

    def latency_s(self, fixed_part: float) -> float:
        """For each unit of the size of the replies."""
        return max(self.sums.latency_s, 1e-9) / max(self.sums.size(fixed_part), 1e-9)

    def by_latency(self, fixed_part: float) -> float:
        """The throughput as the latency shows it."""
        return self.limit / self.latency_s(fixed_part)

    def delivered(self, fixed_part: float) -> float:
        """The throughput as the window shows it, if there was one."""
        by_latency = self.by_latency(fixed_part)
        if not self.window_s:
            return by_latency
        in_window = self.window.size(fixed_part) / self.window_s
        return min(max(in_window, MIN_DELIVERED * by_latency), by_latency)


class ReplyRound:
    """Counts the replies to requests sent since ``started_at``.

    The window begins ``window_from_s`` later, lasts ``reply_s`` or a multiple of it, until it holds
    ``min_window_replies``, and counts all replies. 0: there is no window.
    """

    __slots__ = (
        "_begun",
        "_min_window_replies",
        "_reply_s",
        "_saturated",
        "_started_at",
        "_sums",
        "_window",
        "_window_s",
        "_window_starts_at",
    )

    def __init__(
        self, started_at: float, *, window_from_s: float = 0.0, reply_s: float = 0.0, min_window_replies: int = 0
    ) -> None:
        self._sums = self._window = Sums()
        self._begun = self._saturated = 0
        self._started_at = started_at
        self._min_window_replies = min_window_replies
        self._reply_s = self._window_s = reply_s
        self._window_starts_at = started_at + window_from_s

    @property
    def replies(self) -> int:
        return self._sums.replies

    def add(self, *, sent_at: float, at: float, tokens: float, is_saturated: bool) -> None:
        """Count a reply. ``is_saturated``: as many requests were in flight as were allowed."""
        if sent_at >= self._started_at:
            self._sums = self._sums.plus(tokens, at - sent_at)
            self._saturated += is_saturated
        if self._reply_s and at >= self._window_starts_at:
            while self.has_window_ended(at) and self._window.replies < self._min_window_replies:
                self._window_s += self._reply_s
            if not self.has_window_ended(at):
                self._window = self._window.plus(tokens, at - sent_at)

    def add_begun(self, sent_at: float) -> int:
        """Count a reply that has begun. Returns how many have."""
        self._begun += sent_at >= self._started_at
        return self._begun

    def seconds(self, at: float) -> float:
        return at - self._started_at

    @property
    def is_saturated(self) -> bool:
        """Whether most replies came while as many requests were in flight as were allowed."""
        return self._saturated > self.replies / 2

    def has_window_ended(self, at: float) -> bool:
        return at >= self._window_starts_at + self._window_s

    def measured(self, limit: int, *, in_window: bool) -> Measured:
        """``limit``: how many requests were in flight. ``in_window``: whether the window counts, which has ended."""
        return Measured(limit, self._sums, self._window, self._window_s if in_window else 0.0)
