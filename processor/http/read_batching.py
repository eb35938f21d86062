"""Read batching: lets the kernel collect several segments of a stream before they are read, to save CPU time.

Reading a stream segment by segment costs more than all that is done with the data. A delayed connection is not removed
from the event loop: its socket reports itself readable only when many bytes have come (SO_RCVLOWAT) or when it is
closed. So a dead stream is noticed at once, and a fast one is never held up. This works below TLS, too, where a paused
transport would go on reading. https://man7.org/linux/man-pages/man7/socket.7.html
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush

from processor.core import platform

# ---------------------------------------------------------------- how long a read is delayed

MAX_DELAY_SHARE = 0.03
"""Of the time that a reply is expected to take. The bound on the mean delay follows: see ``ReplyTiming.delay_s``."""

AGE_DIVISOR = 3
"""A delay may grow to ``MAX_DELAY_SHARE`` of the reply's age divided by this."""

MIN_DELAY_S = 0.02
MAX_DELAY_S = 1.0

MIN_GAPS = 1.5
"""In units of the mean gap between two reads: a shorter delay costs about as much as it saves."""

SAMPLE_EVERY = 32
"""One reply in so many is never delayed: from it the time between segments is measured."""

MEMORY_REPLIES = 64
"""The weight of a measurement falls to 1/e after about so many replies."""


class ReplyTiming:
    """Duration and segment rate of replies of one kind. Times are seconds since a reply's first token.

    Replies that come whole with their first token do not count: none of their reads can be delayed.
    """

    __slots__ = ("_gap_s", "_gaps_measured", "_mean_rate", "_replies", "_replies_begun")

    def __init__(self) -> None:
        self._mean_rate = 0.0
        """The mean of 1 / duration: its inverse is the harmonic mean, to which short replies contribute most."""
        self._replies = 0
        self._gap_s = 0.0
        """The mean time between two segments."""
        self._gaps_measured = 0
        self._replies_begun = 0

    def next_may_be_delayed(self) -> bool:
        """Count a reply that begins; returns whether its reads may be delayed."""
        self._replies_begun += 1
        return self._replies_begun % SAMPLE_EVERY != 0

    def record(self, duration_s: float, reads: int | None) -> None:
        """Record a reply that has ended. ``reads`` is None where delays have made them fewer than its segments."""
        duration_s = max(duration_s, 1e-3)
        self._replies = min(self._replies + 1, MEMORY_REPLIES)
        self._mean_rate += (1 / duration_s - self._mean_rate) / self._replies
        if reads:
            self._gaps_measured = min(self._gaps_measured + 1, MEMORY_REPLIES)
            self._gap_s += (duration_s / reads - self._gap_s) / self._gaps_measured

    def delay_s(self, age_s: float) -> float:
        """The delay before the next read of a reply whose first token came ``age_s`` ago; 0: read at once.

        The last delay d of a reply that takes T makes it late by d/2 on average. With H the harmonic mean of T, and d
        at most SHARE x max(H, T/3), the mean of d/2T is at most SHARE/2 x (mean of H/T + 1/3) = SHARE/2 x 4/3 = 2 %,
        for any mix of lengths; where all are equal it is 1.5 %.
        """
        if not self._gaps_measured:
            return 0.0
        delay_s = min(MAX_DELAY_SHARE * max(1 / self._mean_rate, age_s / AGE_DIVISOR), MAX_DELAY_S)
        return delay_s if delay_s >= max(MIN_DELAY_S, MIN_GAPS * self._gap_s) else 0.0


# ---------------------------------------------------------------- the sockets

TICK_S = 0.01
"""Delays end at multiples of this, so that many share one wake-up."""

BATCH_BYTES = 32 * 1024
"""Half of the smallest usual receive window: the sender never has to wait."""

_set_receive_threshold = platform.receive_threshold_setter()


class ReadBatching:
    """Delays the reads of sockets, given by file descriptor. One timer ends all delays. Times are the event loop's."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._due: dict[int, list[int]] = {}
        """The descriptors to resume, by the tick at which they are due."""
        self._ticks: list[int] = []
        """The keys of it, as a heap."""
        self._timer: asyncio.TimerHandle | None = None

    def delay(self, socket_fd: int, until: float) -> None:
        """Read the socket when BATCH_BYTES have come, or at ``until``, rounded to a tick."""
        _set_rcvlowat(socket_fd, BATCH_BYTES)
        tick = round(until / TICK_S)
        if tick in self._due:
            self._due[tick].append(socket_fd)
            return
        self._due[tick] = [socket_fd]
        heappush(self._ticks, tick)
        if self._ticks[0] == tick:
            self._set_timer()

    def resume(self, socket_fd: int) -> None:
        """End the delay now. The entry that is still due does no harm, even if another socket has the descriptor."""
        _set_rcvlowat(socket_fd, 1)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        self.close()
        self._timer = self.loop.call_at(self._ticks[0] * TICK_S, self._resume_due)

    def _resume_due(self) -> None:
        for socket_fd in self._due.pop(heappop(self._ticks)):
            _set_rcvlowat(socket_fd, 1)
        if self._ticks:
            self._set_timer()


def socket_fd(transport: asyncio.BaseTransport) -> int | None:
    """The file descriptor of the transport's socket. None where it has none, or reads cannot be delayed here."""
    connected = transport.get_extra_info("socket")
    return None if connected is None or _set_receive_threshold is None else connected.fileno()


def _set_rcvlowat(socket_fd: int, size: int) -> None:
    assert _set_receive_threshold is not None  # `socket_fd` gives no descriptor without it
    _set_receive_threshold(socket_fd, size)
