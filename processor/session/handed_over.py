"""Holds the jobs that were handed over until the run reads them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple

from processor.core.models import Job
from processor.input.job_file import InvalidLine
from processor.input.line_splitter import LINES_PER_TURN
from processor.scheduler.dependencies import NoJobYet, SourceItem


class QueueShare:
    """Counts the jobs of one caller in the queue. ``on_taken``: called when the run has read one of them."""

    def __init__(self, on_taken: Callable[[], None] = lambda: None) -> None:
        self.queued = 0
        self._on_taken = on_taken

    def take(self) -> None:
        self.queued -= 1
        self._on_taken()


class _Queued(NamedTuple):
    item: Job | InvalidLine
    share: QueueShare


class HandedOverJobs:
    """The source of a run that reads jobs as they come. Only one reader may iterate over it."""

    def __init__(self) -> None:
        self._queued: OrderedDict[int, _Queued] = OrderedDict()
        """By number."""
        self._is_closed = False
        self.on_change: Callable[[], None] = lambda: None
        """Called when there is a job, or the end."""

    def put(self, item: Job | InvalidLine, share: QueueShare) -> None:
        """Add a job to be sent, or an object that is to get a failed row."""
        share.queued += 1
        self._queued[item.line] = _Queued(item, share)
        self.on_change()

    def remove(self, number: int) -> bool:
        """Remove the job with this number. False: it has been read."""
        queued = self._queued.pop(number, None)
        if queued is None:
            return False
        queued.share.take()
        return True

    def remove_all(self) -> list[int]:
        """Remove all jobs, and return their numbers."""
        numbers = list(self._queued)
        for number in numbers:
            self.remove(number)
        return numbers

    def close(self) -> None:
        """Let the reader come to its end once it has read what is there."""
        self._is_closed = True
        self.on_change()

    async def __aiter__(self) -> AsyncGenerator[list[SourceItem], None]:
        taken = 0
        pause = NoJobYet(lambda: bool(self._queued) or self._is_closed)
        while True:
            while self._queued:
                _, queued = self._queued.popitem(last=False)
                queued.share.take()
                yield [queued.item]
                taken += 1
                if taken % LINES_PER_TURN == 0:
                    await asyncio.sleep(0)
            if self._is_closed:
                return
            yield [pause]
