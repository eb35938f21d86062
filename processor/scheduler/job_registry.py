"""Knows in which phase each job's task is, and therefore how the task may be stopped.

| Phase     | The task waits for                             | On a stop                                  |
|-----------|------------------------------------------------|--------------------------------------------|
| waiting   | a permit, its backoff, or (parked) other jobs   | is cancelled at once: nothing is in flight |
| in flight | the response to its request, or a permit to ask | is cancelled after the grace period        |
|           | once more after a reply that is not valid      |                                            |
| neither   | its row to be written                          | is never cancelled                         |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from processor.endpoints.endpoint import EndpointClosed
from processor.scheduler.attempt import JobState

Task = asyncio.Task[Any]


class PhaseScope:
    """A context manager: the job's task is in a phase for as long as the context lasts."""

    __slots__ = ("_members", "_state")

    def __init__(self, state: JobState, members: dict[Task, JobState]) -> None:
        self._state = state
        self._members = members

    def __enter__(self) -> None:
        self._members[self._state.task] = self._state

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        state = self._state
        del self._members[state.task]
        if state.is_withdrawn and kind is asyncio.CancelledError and not state.task.uncancel():
            raise EndpointClosed


class JobRegistry:
    """All jobs that have been started and have no row yet."""

    def __init__(self) -> None:
        self._is_stopping = False
        # Dictionaries keep the order of entry, so that a simulated run can be replayed.
        self._waiting: dict[Task, JobState] = {}
        self._in_flight: dict[Task, JobState] = {}
        self._asking_again: dict[Task, JobState] = {}
        self._parked: dict[Task, JobState] = {}
        """A part of those that wait."""
        self._open_jobs = 0
        self._changed = asyncio.Event()
        """Set when fewer jobs wait to be sent, and when one is parked. Only the task that reads jobs waits for it."""

    # ------------------------------------------------------------ how many jobs may be open

    async def acquire_slot(self, look_ahead: int) -> None:
        """Wait until fewer than ``look_ahead`` jobs wait to be sent, then count one more as open.

        Parked jobs have a bound of their own: they must not keep out the job whose success would release them.
        """
        while self._open_jobs - len(self._in_flight) - len(self._parked) >= look_ahead:
            await self.wait_for_change()
        self._open_jobs += 1

    def release_slot(self) -> None:
        self._open_jobs -= 1
        self._changed.set()

    async def wait_while_others_are_open(self, count_parked: Callable[[], int], is_over: Callable[[], bool]) -> None:
        """Wait while jobs are open that are not parked, or until ``is_over``. Returns at once where none is.

        ``count_parked`` returns how many jobs are held parked. It falls at once when some are released, so that a job
        counts as parked no longer, although its task has not run since. Only ``release_slot``, ``parked`` and ``wake``
        can make the condition true.
        """
        while self._open_jobs > count_parked() and not is_over():
            await self.wait_for_change()

    async def wait_for_change(self) -> None:
        """Wait until a job ends or is parked, or ``wake`` is called."""
        self._changed.clear()
        await self._changed.wait()

    def wake(self) -> None:
        """Let the task that reads jobs look again at what it waits for."""
        self._changed.set()

    @property
    def in_flight(self) -> list[JobState]:
        return list(self._in_flight.values())

    # ------------------------------------------------------------ phases

    def waiting(self, state: JobState) -> PhaseScope:
        """Raises CancelledError if the run is stopping."""
        if self._is_stopping:
            raise asyncio.CancelledError
        return PhaseScope(state, self._waiting)

    def sending(self, state: JobState) -> PhaseScope:
        self._changed.set()
        return PhaseScope(state, self._in_flight)

    def asking_again(self, state: JobState) -> PhaseScope:
        """The job has had a reply that is not valid, and waits for a permit to ask once more: it is in flight."""
        return PhaseScope(state, self._asking_again)

    def parked(self, state: JobState) -> PhaseScope:
        """To be entered inside ``waiting``."""
        self._changed.set()
        return PhaseScope(state, self._parked)

    # ------------------------------------------------------------ stopping

    def cancel_waiting(self) -> None:
        """Cancel all tasks that wait, and from now on those that begin to."""
        self._is_stopping = True
        for task in self._waiting:
            task.cancel()

    def cancel_waiting_job(self, line: int) -> None:
        """Cancel the task of the job of this line, if it waits and is not parked."""
        for task, state in self._waiting.items():
            if state.job.line == line and task not in self._parked:
                task.cancel()

    def withdraw(self, is_closed_for: Callable[[JobState], bool]) -> None:
        """Let the tasks that wait for a permit or in their back-off end with EndpointClosed, where nothing like their
        job is sent any more. What parked jobs wait for is decided elsewhere."""
        for task, state in (*self._waiting.items(), *self._asking_again.items()):
            if task not in self._parked and not state.is_withdrawn and is_closed_for(state):
                state.is_withdrawn = True
                task.cancel()

    def cancel_in_flight(self) -> None:
        for task in (*self._in_flight, *self._asking_again):
            task.cancel()
