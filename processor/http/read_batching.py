"""Letting the kernel gather a stream's segments: pauses in its reading, and one timer that ends them all.

A paused connection is not taken from the event loop: its socket is told to be readable only when much has come
(SO_RCVLOWAT), or when it is closed, so that a dead stream is noticed at once and a fast one never held up. That works
below TLS, too, where a paused transport would go on reading. https://man7.org/linux/man-pages/man7/socket.7.html
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
from heapq import heappop, heappush

TICK_S = 0.01
"""Pauses end at multiples of this, so that many share one waking."""

BATCH_BYTES = 32 * 1024
"""Half of the smallest receive window that is usual: the sender is never kept waiting."""

SO_RCVLOWAT = getattr(socket, "SO_RCVLOWAT", None)

# Straight to the C library: uvloop makes a socket object for each call, which takes four times as long, and a socket
# object of ours would close the number when it goes, whoever has it by then.
_set_option = ctypes.PyDLL(None).setsockopt
_set_option.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
_ANYTHING = ctypes.c_int(1)
_MUCH = ctypes.c_int(BATCH_BYTES)


class ReadBatching:
    """Of sockets, by their numbers. ``until`` and all times are the event loop's."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._due: dict[int, list[int]] = {}
        """What is to be resumed, by the moment, counted in grid steps."""
        self._moments: list[int] = []
        """The keys of it, as a heap."""
        self._timer: asyncio.TimerHandle | None = None

    def pause(self, number: int, until: float) -> None:
        """To the nearest grid step."""
        _wake_at(number, _MUCH)
        moment = round(until / TICK_S)
        if moment in self._due:
            self._due[moment].append(number)
            return
        self._due[moment] = [number]
        heappush(self._moments, moment)
        if self._moments[0] == moment:
            self._set()

    def end(self, number: int) -> None:
        """At once. What is still planned for it does no harm, even if the number is another's by then."""
        _wake_at(number, _ANYTHING)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set(self) -> None:
        self.close()
        self._timer = self.loop.call_at(self._moments[0] * TICK_S, self._end_due)

    def _end_due(self) -> None:
        for number in self._due.pop(heappop(self._moments)):
            _wake_at(number, _ANYTHING)
        if self._moments:
            self._set()


def number_of(transport: asyncio.BaseTransport) -> int | None:
    """Of its socket. None where it has none, or there is no such mark here."""
    connected = transport.get_extra_info("socket")
    return None if connected is None or SO_RCVLOWAT is None else connected.fileno()


def _wake_at(number: int, size: ctypes.c_int) -> None:
    # It may fail, if the socket is closed: then nothing needs to be woken.
    _set_option(number, socket.SOL_SOCKET, SO_RCVLOWAT, ctypes.byref(size), ctypes.sizeof(size))
