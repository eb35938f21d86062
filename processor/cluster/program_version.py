"""Tells whether two processes understand each other's messages: whether they run the same sources."""

from __future__ import annotations

import os
import sys
from functools import cache
from hashlib import blake2b
from pathlib import Path

from processor.cluster.messages import WorkerInfo
from processor.core.version import __version__

PACKAGE = Path(__file__).parents[1]


@cache
def sources_digest() -> str:
    """Return 16 hex digits over all sources of this program."""
    digest = blake2b(digest_size=8)
    for path in sorted(PACKAGE.rglob("*.py"), key=lambda path: path.relative_to(PACKAGE).as_posix()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def python_version() -> str:
    """Return major and minor, such as ``3.12``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def own_info(node: str, *, max_connections: int = 0) -> WorkerInfo:
    """Return what this process tells of itself. ``node``: the name of its machine."""
    return WorkerInfo(
        version=__version__,
        sources=sources_digest(),
        python=python_version(),
        node=node,
        pid=os.getpid(),
        max_connections=max_connections,
    )
