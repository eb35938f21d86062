"""Where each job's task is, and so how it may be stopped.

*waiting*    for a permit, its backoff, the end of an outage or a doubt: nothing is under way, it is cancelled at once
*streaming*  something was sent: it is given the grace period, then cancelled
*saving*     neither of both: it is never disturbed
"""

from __future__ import annotations

import asyncio
from typing import Any

from processor.health.parked_jobs import MAX_PARKED_JOBS
from processor.scheduler.attempt import JobState

Task = asyncio.Task[Any]


class PhaseScope:
    """A job's task is in a phase for as long as this context lasts."""

    __slots__ = ("_care", "_there")

    def __init__(self, care: JobState, there: dict[Task, JobState]) -> None:
        self._care = care
        self._there = there

    def __enter__(self) -> None:
        self._there[self._care.task] = self._care

    def __exit__(self, *_: object) -> None:
        del self._there[self._care.task]


class JobRegistry:
    def __init__(self) -> None:
        self.closed = False
        """Nobody may begin to wait, or to stream, any more."""
        self._waiting: dict[Task, JobState] = {}
        """In order, so that what is simulated replays."""
        self._streaming: dict[Task, JobState] = {}
        self._in_doubt: dict[Task, JobState] = {}
        """Of those that wait."""
        self._jobs = 0
        self._room = asyncio.Event()

    async def room(self, ahead: int) -> None:
        """Let one more job in, once fewer than so many wait. Whoever was let in leaves.

        Those in doubt have a bound of their own: they do not keep out the one that may end it.
        """
        while self._jobs - len(self._streaming) - len(self._in_doubt) >= ahead or self.is_full_of_doubt:
            self._room.clear()
            await self._room.wait()
        self._jobs += 1

    def leave(self) -> None:
        self._jobs -= 1
        self._room.set()

    def waiting(self, care: JobState) -> PhaseScope:
        """Raises CancelledError where nobody may begin to."""
        if self.closed:
            raise asyncio.CancelledError
        return PhaseScope(care, self._waiting)

    def streaming(self, care: JobState) -> PhaseScope:
        self._room.set()
        return PhaseScope(care, self._streaming)

    def in_doubt(self, care: JobState) -> PhaseScope:
        self._room.set()
        return PhaseScope(care, self._in_doubt)

    @property
    def is_full_of_doubt(self) -> bool:
        return len(self._in_doubt) >= MAX_PARKED_JOBS

    @property
    def all_in_doubt(self) -> int:
        """How many wait in doubt, where nobody else is left; else 0."""
        return self._jobs if self._jobs == len(self._in_doubt) else 0

    @property
    def in_flight(self) -> list[JobState]:
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
