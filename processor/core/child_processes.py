"""Processes that this program has started, and that must not outlive it where a signal ends it at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from processor.core import platform

_leaders: set[int] = set()
"""Each leads a process group of its own."""


@contextmanager
def not_outliving(process_id: int) -> Iterator[None]:
    """While the body runs, the end of this program by a signal kills the process and what it has started."""
    _leaders.add(process_id)
    try:
        yield
    finally:
        _leaders.discard(process_id)


def kill_all() -> None:
    for process_id in tuple(_leaders):
        platform.kill_group(process_id)
