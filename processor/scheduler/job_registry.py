"""Knows the jobs that have a task, and stops the tasks by their phase: see ``Phase``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from processor.scheduler.job_state import IN_FLIGHT, WAITING, JobState, Phase


class JobRegistry:
    """All jobs that have been started and have no row yet."""

    def __init__(self) -> None:
        self._is_stopping = False
        # A dictionary keeps the order of entry, so that a simulated run can be replayed.
        self._tasks: dict[JobState, asyncio.Task[Any]] = {}
        self._unsent: set[JobState] = set()
        """Jobs that wait to be sent, and are not parked."""
        self._change: asyncio.Future[None] | None = None
        """Completed when fewer jobs wait to be sent, or when a job is parked. None while no task awaits it. At most one
        task does: first the task that reads jobs, later the task of the run."""

    def add(self, state: JobState, task: asyncio.Task[Any]) -> None:
        """The job is about to be run by this task."""
        self._tasks[state] = task
        self._unsent.add(state)

    def remove(self, state: JobState) -> None:
        """The job's task has done its work."""
        del self._tasks[state]
        self._unsent.discard(state)
        self.wake()

    # ------------------------------------------------------------ how many jobs may be open

    def has_room(self, look_ahead: int) -> bool:
        """Whether fewer than ``look_ahead`` jobs wait to be sent.

        Parked jobs have a bound of their own: they must not keep out the job whose success would release them.
        """
        return len(self._unsent) < look_ahead

    async def wait_for_room(self, look_ahead: int) -> None:
        """Wait until there is room."""
        while not self.has_room(look_ahead):
            await self.wait_for_change()

    async def wait_while_others_are_open(self, count_parked: Callable[[], int], is_over: Callable[[], bool]) -> None:
        """Wait while jobs are open that are not parked, or until ``is_over``. Returns at once where none is.

        ``count_parked`` returns how many jobs are held parked. It falls at once when some are released, so that a job
        counts as parked no longer, although its task has not run since. Only ``remove``, ``park`` and ``wake`` can make
        the condition true.
        """
        while len(self._tasks) > count_parked() and not is_over():
            await self.wait_for_change()

    async def wait_until_all_have_ended(self) -> None:
        while self._tasks:
            await self.wait_for_change()

    async def wait_for_change(self) -> None:
        """Wait until a job is sent, ends or is parked, or ``wake`` is called."""
        assert self._change is None, "only one task waits"
        self._change = asyncio.get_running_loop().create_future()
        try:
            await self._change
        finally:
            self._change = None

    def wake(self) -> None:
        """Let the task that reads jobs look again at what it waits for."""
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    @property
    def in_flight(self) -> list[JobState]:
        return [state for state in self._tasks if state.phase is IN_FLIGHT]

    # ------------------------------------------------------------ phases

    def wait(self, state: JobState) -> None:
        """The job begins to wait for a permit, or in its back-off. Raises CancelledError if the run is stopping."""
        if self._is_stopping:
            raise asyncio.CancelledError
        self._unsent.add(state)
        state.phase = WAITING

    def send(self, state: JobState) -> None:
        """The job's request is about to be sent."""
        self._unsent.discard(state)
        state.phase = IN_FLIGHT
        self.wake()

    def ask_again(self, state: JobState) -> None:
        """The job begins to wait for a permit to ask once more. It counts as in flight, also while the run stops."""
        state.phase = Phase.ASKING_AGAIN

    def park(self, state: JobState) -> None:
        """The job begins to wait for what other jobs show. Raises CancelledError if the run is stopping."""
        if self._is_stopping:
            raise asyncio.CancelledError
        self._unsent.discard(state)
        state.phase = Phase.PARKED
        self.wake()

    # ------------------------------------------------------------ stopping

    def cancel_waiting(self) -> None:
        """Cancel all tasks that wait, and from now on those that begin to."""
        self._is_stopping = True
        self._cancel(WAITING, Phase.PARKED)

    def cancel_waiting_job(self, line: int) -> None:
        """Cancel the task of the job of this line, if it waits and is not parked."""
        for state, task in self._tasks.items():
            if state.phase is WAITING and state.job.line == line:
                task.cancel()

    def withdraw(self, is_closed_for: Callable[[JobState], bool]) -> None:
        """Cancel the tasks that wait for a permit or in their back-off, where nothing like their job is sent any more.

        What parked jobs wait for is decided elsewhere.
        """
        for state, task in self._tasks.items():
            waits = state.phase in (WAITING, Phase.ASKING_AGAIN)
            if waits and not state.is_withdrawn and is_closed_for(state):
                state.is_withdrawn = True
                task.cancel()

    def cancel_in_flight(self) -> None:
        self._cancel(IN_FLIGHT, Phase.ASKING_AGAIN)

    def _cancel(self, *phases: Phase) -> None:
        for state, task in self._tasks.items():
            if state.phase in phases:
                task.cancel()

    async def cancel_all(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        if tasks := list(self._tasks.values()):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
