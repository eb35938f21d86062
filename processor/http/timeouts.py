"""Ends requests that take too long, with one timer for all of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from processor.core.errors import StreamStalled, Timeout, TransportError
from processor.core.models import Timeouts

CONFIRM_S = 0.05
"""How long a deadline must have passed. In between the event loop reads what has come: a timer may be called before the
sockets are read, if the machine was busy."""

ERROR_BODY_WITHIN_S = 10.0
"""The longest wait for the body of a response that is no reply."""

MAX_LATENESS_S = 1.0
"""A timer that is later shows that the process did not run, because it was stopped or its machine was suspended."""


class DeadlineTimer:
    """Checks the deadlines of all requests of a transport, with one timer for all of them.

    Arriving bytes only store the time. The timer fires at the earliest moment at which a deadline could have passed,
    and is set again for the next one. Time in which the process did not run does not count.
    """

    def __init__(self, timeouts: Timeouts, loop: asyncio.AbstractEventLoop) -> None:
        self.timeouts = timeouts
        self.loop = loop
        # The first byte may come at any time, and shortens the silence that is allowed.
        self._least_s = min(timeouts.first_byte_timeout_s, timeouts.stall_timeout_s, timeouts.request_timeout_s)
        self._watched: dict[Deadlines, None] = {}  # in the order in which they were sent
        self._due_at = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def watch(self, deadlines: Deadlines, sent_at: float) -> None:
        self._watched[deadlines] = None
        if sent_at + self._least_s < self._due_at:
            self.check_by(sent_at + self._least_s)

    def forget(self, deadlines: Deadlines) -> None:
        self._watched.pop(deadlines, None)

    def check_by(self, at: float) -> None:
        """Fire no later than at this time."""
        if at < self._due_at:
            self.close()
            self._due_at = at
            self._handle = self.loop.call_at(at, self._check)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _check(self) -> None:
        now = self.loop.time()
        late_s = now - self._due_at
        due_at = math.inf
        for deadlines in list(self._watched):
            if late_s > MAX_LATENESS_S:
                deadlines.postpone(now, late_s)
            due_at = min(due_at, deadlines.check(now))
        self._due_at, self._handle = math.inf, None
        if due_at < math.inf:
            self.check_by(max(due_at, now + CONFIRM_S))  # many deadlines may pass one shortly after the other


class Deadlines:
    """Calls ``on_expired`` once when a request has been silent, or under way, for too long."""

    __slots__ = (
        "_began",
        "_end_at",
        "_expires_at",
        "_last_bytes_at",
        "_max_silence_s",
        "_on_expired",
        "_passed",
        "_timer",
        "expired",
    )

    def __init__(self, timer: DeadlineTimer, sent_at: float, on_expired: Callable[[], None]) -> None:
        """The request was sent: wait for the first byte."""
        self._timer = timer
        self._on_expired = on_expired
        self.expired = False
        self._max_silence_s = timer.timeouts.first_byte_timeout_s
        self._last_bytes_at = sent_at
        self._end_at = sent_at + timer.timeouts.request_timeout_s
        self._began = False
        self._passed: float | None = None
        """A deadline that has passed, if no bytes come before ``_expires_at``."""
        self._expires_at = 0.0
        timer.watch(self, sent_at)

    def on_bytes(self) -> None:
        """Bytes of the reply's body have come."""
        timer = self._timer
        self._last_bytes_at = timer.loop.time()
        self._began = True
        self._max_silence_s = timer.timeouts.stall_timeout_s

    def cap(self, seconds: float) -> None:
        """Wait at most so much longer for the end of the response."""
        self._end_at = min(self._end_at, self._timer.loop.time() + seconds)
        self._timer.check_by(self._end_at)

    def stop(self) -> None:
        self._timer.forget(self)

    def error(self) -> TransportError:
        """The error for the deadline that has passed."""
        if self._end_at <= self._last_bytes_at + self._max_silence_s:
            return Timeout(f"no whole reply within {self._timer.timeouts.request_timeout_s:g} s (request_timeout_s)")
        if self._began:
            return StreamStalled(f"silence for {self._max_silence_s:g} s in the middle of the reply (stall_timeout_s)")
        return Timeout(f"no first byte within {self._max_silence_s:g} s (first_byte_timeout_s)")

    def postpone(self, now: float, late_s: float) -> None:
        """The process did not run for so long: silence counts from now on."""
        self._last_bytes_at = now
        self._end_at += late_s

    def check(self, now: float) -> float:
        """Expire where a deadline has passed. Returns when to check again."""
        if self.expired:
            return math.inf
        deadline = min(self._last_bytes_at + self._max_silence_s, self._end_at)
        if now < deadline:
            return min(deadline, now + self._timer.timeouts.stall_timeout_s)
        if self._passed != deadline:
            self._passed, self._expires_at = deadline, now + CONFIRM_S
        if now < self._expires_at:
            return self._expires_at
        self.expired = True
        self._on_expired()
        return math.inf
