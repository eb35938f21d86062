"""Where each job's task is, and so how it may be stopped.

*waiting*    for a permit, its backoff, the end of an outage: nothing was sent, it is cancelled at once
*streaming*  something was sent: it is given the grace period, then cancelled
*saving*     neither of both: it is never disturbed
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from processor.pipeline.care import Care


class Phases:
    def __init__(self) -> None:
        self.closed = False
        """Nobody may begin to wait, or to stream, any more."""
        self._waiting: dict[asyncio.Task[object], None] = {}
        """In order, so that what is simulated replays."""
        self._streaming: dict[asyncio.Task[object], Care] = {}
        self._jobs = 0
        self._room = asyncio.Event()

    async def room(self, ahead: int) -> None:
        """Let one more job in, once fewer than so many wait. Whoever was let in leaves."""
        while self._jobs - len(self._streaming) >= ahead:
            self._room.clear()
            await self._room.wait()
        self._jobs += 1

    def leave(self) -> None:
        self._jobs -= 1
        self._room.set()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        task = _current_task()
        if self.closed:
            raise asyncio.CancelledError
        self._waiting[task] = None
        try:
            yield
        finally:
            del self._waiting[task]

    @contextmanager
    def streaming(self, care: Care) -> Iterator[None]:
        task = _current_task()
        self._streaming[task] = care
        self._room.set()
        try:
            yield
        finally:
            del self._streaming[task]

    @property
    def in_flight(self) -> list[Care]:
        return list(self._streaming.values())

    def close(self) -> None:
        """Cancel whoever waits, now or later."""
        self.closed = True
        for task in self._waiting:
            task.cancel()

    def abort(self) -> None:
        """Cancel whoever streams."""
        for task in self._streaming:
            task.cancel()


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None, "phases are phases of tasks"
    return task
