"""How long one request is waited for: one timer, however many bytes come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from processor.core.errors import StreamStalled, Timeout, TransportError
from processor.http.settings import TransportSettings


class Deadlines:
    """Gives a request up, once, when it has been silent, or under way, for too long.

    Bytes only note when they came. The timer goes off at the earliest moment at which it could be too late, and is
    set anew where it is not.
    """

    __slots__ = ("_began", "_end_at", "_give_up", "_heard_at", "_loop", "_settings", "_silence_s", "_timer", "is_over")

    def __init__(
        self, settings: TransportSettings, loop: asyncio.AbstractEventLoop, give_up: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._loop = loop
        self._give_up = give_up
        self.is_over = False
        self._timer: asyncio.TimerHandle | None = None
        self._silence_s = settings.first_byte_timeout_s
        self._heard_at = 0.0
        self._end_at = 0.0
        self._began = False

    def start(self, at: float) -> None:
        """The request has gone: the first byte is waited for."""
        self._heard_at = at
        self._end_at = at + self._settings.request_timeout_s
        self._set(at)

    def heard(self) -> None:
        """Bytes of the reply's body have come."""
        self._heard_at = self._loop.time()
        self._began = True
        self._silence_s = self._settings.stall_timeout_s

    def within(self, seconds: float) -> None:
        """What remains must come soon."""
        self._end_at = min(self._end_at, self._loop.time() + seconds)
        self._set(self._loop.time())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def lost(self) -> TransportError:
        """Why it was given up."""
        if self._end_at <= self._heard_at + self._silence_s:
            return Timeout(f"no whole reply within {self._settings.request_timeout_s:g} s")
        if self._began:
            return StreamStalled(f"silence for {self._silence_s:g} s in the middle of the reply")
        return Timeout(f"no first byte within {self._silence_s:g} s")

    def _due(self) -> float:
        return min(self._heard_at + self._silence_s, self._end_at)

    def _set(self, now: float) -> None:
        self.stop()
        # The first byte may come at any time, and shortens what silence is too long.
        earliest = min(self._due(), now + self._settings.stall_timeout_s)
        self._timer = self._loop.call_at(earliest, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if now < self._due():
            self._set(now)
        else:
            self.is_over = True
            self._give_up()
