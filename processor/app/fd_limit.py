"""What this machine allows: how many connections may be open at once."""

from __future__ import annotations

import resource

RESERVE = 64
"""Open files that are no connections to the provider: ours, the loop's, the journal's."""

MOST = 10_000
"""More streams than one process can fold in time are of no use."""


def raise_fd_limit() -> int:
    """Raises the soft limit on open files to the hard one, and says how many requests that leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + RESERVE if hard == resource.RLIM_INFINITY else min(hard, MOST + RESERVE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    room = MOST if soft == resource.RLIM_INFINITY else soft - RESERVE
    return max(1, min(room, MOST))
