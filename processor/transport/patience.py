"""How long one request is waited for: one alarm, however many bytes come."""

from __future__ import annotations

import asyncio
from math import inf

from processor.errors import RequestTimeout, StreamStalled, TransportError
from processor.transport.alarms import Alarms
from processor.transport.settings import TransportSettings


class Patience:
    """Ends a timeout scope when a request has been silent, or under way, for too long.

    Bytes only note when they came. The alarm goes off at the earliest moment at which it could be too late, and is
    set anew where it is not.
    """

    __slots__ = ("_alarms", "_began", "_end_at", "_heard_at", "_loop", "_moment", "_scope", "_settings", "_silence_s")

    def __init__(self, settings: TransportSettings, scope: asyncio.Timeout, alarms: Alarms) -> None:
        self._settings = settings
        self._scope = scope
        self._loop = asyncio.get_running_loop()
        self._alarms = alarms
        self._moment = -inf
        """Of the alarm that was set last."""
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
        self._alarms.clear(self, self._moment)

    def lost(self) -> TransportError:
        """Why the scope has ended."""
        if self._end_at <= self._heard_at + self._silence_s:
            return RequestTimeout(f"no whole reply within {self._settings.request_timeout_s:g} s")
        if self._began:
            return StreamStalled(f"silence for {self._silence_s:g} s in the middle of the reply")
        return RequestTimeout(f"no first byte within {self._silence_s:g} s")

    def _due(self) -> float:
        return min(self._heard_at + self._silence_s, self._end_at)

    def _set(self, now: float) -> None:
        self.stop()
        # The first byte may come at any time, and shortens what silence is too long.
        earliest = min(self._due(), now + self._settings.stall_timeout_s)
        self._moment = self._alarms.set(self, earliest, now)

    def look(self) -> None:
        now = self._loop.time()
        if now < self._due():
            self._set(now)
        else:
            self._scope.reschedule(now)
