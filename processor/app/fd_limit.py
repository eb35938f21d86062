"""The limit on open files, which bounds the number of connections."""

from __future__ import annotations

import resource

RESERVED_FILES = 64
"""Open files that are not connections to the provider: job file, outputs, standard streams, the event loop's."""

MAX_CONNECTIONS = 10_000
"""One process cannot parse more streams than this in time."""


def raise_fd_limit() -> int:
    """Raises the process's soft limit on open files as far as the hard limit allows.

    Returns the number of connections that the limit leaves room for, at least 1.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + RESERVED_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(1, min(soft - RESERVED_FILES, MAX_CONNECTIONS))
