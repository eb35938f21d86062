"""Lets the cyclic garbage collector run less often, and pauses it while a large value is built.

Each value of a decoded reply counts as a new object, so that the collector would traverse all of it again and again.
The work would grow faster than the reply, and no other thread runs meanwhile.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")

GC_THRESHOLD = 10_000
"""New objects between two collections of the youngest generation. A run creates few reference cycles, and with Python's
default (700) the collector would traverse the jobs in flight again and again."""


def relax_gc() -> tuple[int, int, int]:
    """Collect garbage less often from now on: see GC_THRESHOLD. Return the thresholds until now."""
    previous = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD, *previous[1:])
    return previous


def resume_gc() -> None:
    """Turn the collector on after the start of a program of our own. What has been imported stays until the end, so
    that no collection needs to traverse it."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


class _Pauses:
    """How many there are at this time, and whether the collector was on before the first."""

    count = 0
    was_enabled = False


@contextmanager
def gc_paused() -> Iterator[None]:
    """May overlap with others. Enter and leave it in one thread: that of the event loop."""
    if _Pauses.count == 0:
        _Pauses.was_enabled = gc.isenabled()
        gc.disable()
    _Pauses.count += 1
    try:
        yield
    finally:
        _Pauses.count -= 1
        if _Pauses.count == 0 and _Pauses.was_enabled:
            gc.enable()


async def in_thread_without_gc(work: Callable[[], _T]) -> _T:
    """Does the work in a thread, with the collector paused."""
    import asyncio  # not at the top, because every command imports this module

    with gc_paused():
        return await asyncio.to_thread(work)
