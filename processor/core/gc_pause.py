"""Pauses the cyclic garbage collector while a large value is built.

Each value of a decoded reply counts as a new object, so that the collector would traverse all of it again and again.
The work would grow faster than the reply, and no other thread runs meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")


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
    with gc_paused():
        return await asyncio.to_thread(work)
