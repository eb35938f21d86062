"""The limit on open files, which bounds the number of connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from processor.core import platform

RESERVED_FILES = 64
"""Open files that are not connections to the provider: job file, outputs, standard streams, the event loop's."""

MAX_CONNECTIONS = 10_000
"""One process cannot parse more streams than this in time."""

MAX_CONNECTIONS_OF_UNKNOWN_LIMIT = 1_000
"""Where the system does not tell its limit on open files."""


class _SharedLimit:
    """The limit belongs to the process: the first of several runs raises it, the last one restores it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs = 0
        self._original = 0.0
        self._raised: float | None = None

    def enter(self) -> None:
        with self._lock:
            self._runs += 1
            limits = platform.open_file_limits()
            if self._runs > 1 or limits is None:
                return
            self._original, hard = limits
            wanted = min(hard, MAX_CONNECTIONS + RESERVED_FILES)
            if self._original < wanted and platform.set_open_file_limit(wanted):
                self._raised = wanted

    def leave(self) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs or self._raised is None:
                return
            limits = platform.open_file_limits()
            if limits is not None and limits[0] == self._raised:  # not changed by the program meanwhile
                platform.set_open_file_limit(self._original)
            self._raised = None


_limit = _SharedLimit()


@contextmanager
def raised_fd_limit() -> Iterator[int]:
    """Raises the process's soft limit on open files as far as the hard limit allows, and restores it at the end.

    Yields the number of connections that the limit leaves room for, at least 1.
    """
    _limit.enter()
    try:
        yield max_connections()
    finally:
        _limit.leave()


def max_connections() -> int:
    """Return the number of connections that the limit leaves room for, at least 1."""
    limits = platform.open_file_limits()
    if limits is None:
        return MAX_CONNECTIONS_OF_UNKNOWN_LIMIT
    return int(max(1, min(limits[0] - RESERVED_FILES, MAX_CONNECTIONS)))
