"""What the replies of a round show. Times are passed in.

By Little's law, ``limit = throughput * latency``, the latency of the replies to what was sent in the round shows the
throughput. But where some requests wait at the server, the replies that come first did not wait, and show too much. So
there may be a window besides: as much comes in it as the server gives in that time, whoever waits.
"""

from __future__ import annotations

from typing import NamedTuple

MIN_DELIVERED = 0.75
"""The least throughput in a window, as a share of what the latency shows. Where all that a raise has added waits, it
waits for 0 to 1 reply time and comes after 1 to 2, which is 1.5 in the mean, but 2 for what is sent later."""


class RoundThroughput(NamedTuple):
    """Tokens a second, by the window and by the latency, which are the same unless requests wait at the server."""

    delivered: float
    by_latency: float


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
        "_tokens",
        "_total_s",
        "_window_replies",
        "_window_s",
        "_window_starts_at",
        "_window_tokens",
        "replies",
    )

    def __init__(
        self, started_at: float, *, window_from_s: float = 0.0, reply_s: float = 0.0, min_window_replies: int = 0
    ) -> None:
        self.replies = 0
        self._begun = 0
        self._started_at = started_at
        self._tokens = self._total_s = 0.0
        self._saturated = 0
        self._min_window_replies = min_window_replies
        self._reply_s = self._window_s = reply_s
        self._window_starts_at = started_at + window_from_s
        self._window_replies = 0
        self._window_tokens = 0.0

    def add(self, *, sent_at: float, at: float, tokens: float, is_saturated: bool) -> None:
        """Count a reply. ``is_saturated``: as many requests were in flight as were allowed."""
        if sent_at >= self._started_at:
            self.replies += 1
            self._tokens += tokens
            self._total_s += at - sent_at
            self._saturated += is_saturated
        if self._reply_s and at >= self._window_starts_at:
            while self.has_window_ended(at) and self._window_replies < self._min_window_replies:
                self._window_s += self._reply_s
            if not self.has_window_ended(at):
                self._window_replies += 1
                self._window_tokens += tokens

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

    @property
    def mean_reply_s(self) -> float:
        return self._total_s / self.replies

    @property
    def latency_s(self) -> float:
        """The latency per token: replies vary in length."""
        return max(self._total_s, 1e-9) / max(self._tokens, 1e-9)

    def has_window_ended(self, at: float) -> bool:
        return at >= self._window_starts_at + self._window_s

    def throughput_by_latency(self, limit: int) -> RoundThroughput:
        """With so many requests in flight."""
        throughput = limit / self.latency_s
        return RoundThroughput(throughput, throughput)

    def throughput_in_window(self, limit: int) -> RoundThroughput:
        """With so many requests in flight, in a window that has ended."""
        by_latency = limit / self.latency_s
        return RoundThroughput(
            min(max(self._window_tokens / self._window_s, MIN_DELIVERED * by_latency), by_latency), by_latency
        )
