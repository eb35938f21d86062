"""Letting the kernel gather a stream's segments: pauses in its reading, and one timer that ends them all.

A paused connection is not taken from the event loop: its socket is told to be readable only when much has come
(SO_RCVLOWAT), or when it is closed, so that a dead stream is noticed at once and a fast one never held up. That works
below TLS, too, where a paused transport would go on reading. https://man7.org/linux/man-pages/man7/socket.7.html
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from heapq import heappop, heappush

GRID_S = 0.01
"""Pauses end at multiples of this, so that many share one waking."""

MUCH_BYTES = 32 * 1024
"""Half of the smallest receive window that is usual: the sender is never kept waiting."""

LOW_MARK = getattr(socket, "SO_RCVLOWAT", None)


class Pauses:
    """``until`` and all times are the event loop's."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: dict[int, list[asyncio.Transport]] = {}
        """What is to be resumed, by the moment, counted in grid steps."""
        self._moments: list[int] = []
        """The keys of it, as a heap."""
        self._timer: asyncio.TimerHandle | None = None

    def pause(self, transport: asyncio.Transport, until: float) -> None:
        """To the nearest grid step."""
        _wake_at(transport, MUCH_BYTES)
        moment = round(until / GRID_S)
        if moment in self._due:
            self._due[moment].append(transport)
            return
        self._due[moment] = [transport]
        heappush(self._moments, moment)
        if self._moments[0] == moment:
            self._set()

    def end(self, transport: asyncio.Transport) -> None:
        """At once. What is still planned for it does no harm."""
        _wake_at(transport, 1)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set(self) -> None:
        self.close()
        self._timer = self._loop.call_at(self._moments[0] * GRID_S, self._end_due)

    def _end_due(self) -> None:
        for transport in self._due.pop(heappop(self._moments)):
            _wake_at(transport, 1)
        if self._moments:
            self._set()


def _wake_at(transport: asyncio.Transport, size: int) -> None:
    """Of a closed transport the socket's number may be another's already."""
    if transport.is_closing() or LOW_MARK is None:
        return
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, LOW_MARK, size)
