"""Ends a request that takes too long, with one timer per request however many bytes come."""

from __future__ import annotations

import asyncio
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


class Deadlines:
    """Calls ``on_expired`` once when a request has been silent, or under way, for too long.

    Arriving bytes only store the time. The timer fires at the earliest moment at which a deadline could have passed,
    and is set again where none has. Time in which the process did not run does not count.
    """

    __slots__ = (
        "_began",
        "_end_at",
        "_is_confirming",
        "_last_bytes_at",
        "_loop",
        "_max_silence_s",
        "_on_expired",
        "_timeouts",
        "_timer",
        "expired",
    )

    def __init__(self, timeouts: Timeouts, loop: asyncio.AbstractEventLoop, on_expired: Callable[[], None]) -> None:
        self._timeouts = timeouts
        self._loop = loop
        self._on_expired = on_expired
        self.expired = False
        self._timer: asyncio.TimerHandle | None = None
        self._max_silence_s = timeouts.first_byte_timeout_s
        self._last_bytes_at = 0.0
        self._end_at = 0.0
        self._began = False
        self._is_confirming = False

    def start(self, at: float) -> None:
        """The request was sent: wait for the first byte."""
        self._last_bytes_at = at
        self._end_at = at + self._timeouts.request_timeout_s
        self._set_timer(at)

    def on_bytes(self) -> None:
        """Bytes of the reply's body have come."""
        self._last_bytes_at = self._loop.time()
        self._began = True
        self._max_silence_s = self._timeouts.stall_timeout_s

    def cap(self, seconds: float) -> None:
        """Wait at most so much longer for the end of the response."""
        self._end_at = min(self._end_at, self._loop.time() + seconds)
        self._set_timer(self._loop.time())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def error(self) -> TransportError:
        """The error for the deadline that has passed."""
        if self._end_at <= self._last_bytes_at + self._max_silence_s:
            return Timeout(f"no whole reply within {self._timeouts.request_timeout_s:g} s (request_timeout_s)")
        if self._began:
            return StreamStalled(f"silence for {self._max_silence_s:g} s in the middle of the reply (stall_timeout_s)")
        return Timeout(f"no first byte within {self._max_silence_s:g} s (first_byte_timeout_s)")

    def _next_deadline(self) -> float:
        return min(self._last_bytes_at + self._max_silence_s, self._end_at)

    def _set_timer(self, now: float) -> None:
        self.stop()
        self._is_confirming = False
        # The first byte may come at any time, and shortens the silence that is allowed.
        earliest = min(self._next_deadline(), now + self._timeouts.stall_timeout_s)
        self._timer = self._loop.call_at(earliest, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        assert self._timer is not None
        late_s = now - self._timer.when()
        if late_s > MAX_LATENESS_S:
            self._last_bytes_at = now  # silence counts from now on
            self._end_at += late_s
        if now < self._next_deadline():
            self._set_timer(now)
        elif not self._is_confirming:
            self._is_confirming = True
            self._timer = self._loop.call_at(now + CONFIRM_S, self._check)
        else:
            self.expired = True
            self._on_expired()
