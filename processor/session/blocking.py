"""The synchronous form of ``Session.results``: the session lives in a thread of its own, with its own event loop.

caller's thread                          session's thread
---------------                          ----------------
takes jobs of the iterable     ◄─ WANTED ─  asks for jobs, as far ahead as requests can be sent
gives them to the session      ─ jobs ──►   hands them over
yields the row                 ◄── row ──   a job has its row
raises the error               ◄─ _End ──   the session has ended
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from os import PathLike
from queue import SimpleQueue
from threading import Thread
from typing import Any

from processor.config.settings import Settings
from processor.core import platform
from processor.core.events import Listener, Transport
from processor.core.models import JSON
from processor.session.session import Session

MAX_JOBS_GIVEN = 32
"""Jobs that are given to the session at a time: each time two threads have to take turns."""
MAX_WAIT_FOR_JOBS_S = 0.005
"""A slow iterable keeps the jobs that it has given no longer than this from being sent."""

WANTED = object()
"""The session asks for further jobs."""


@dataclass(frozen=True, slots=True)
class _End:
    """The session has ended, by this error."""

    error: BaseException | None


def results(
    jobs: Iterable[Mapping[str, Any]],
    settings: Settings | None = None,
    *,
    journal: str | PathLike[str] | None = None,
    listeners: Sequence[Listener] = (),
    transport: Transport | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[JSON]:
    """Yield the row of each job as it finishes. The arguments are those of ``Session``.

    It works beside a running event loop, too, as in a notebook. ``jobs`` is read in the caller's thread, while that
    waits for a row; listeners are called in another one. When the caller reads no further and closes the iterator, what
    is in flight is cancelled. Raises what ``Session`` raises, with the first row.
    """
    thread = _SessionThread(
        Session(settings, journal=journal, listeners=listeners, transport=transport, environ=environ)
    )
    all_jobs = iter(jobs)
    thread.start()
    try:
        while not isinstance(message := thread.messages.get(), _End):
            if message is WANTED:
                thread.give(_next_jobs(all_jobs))
            else:
                yield message
    finally:
        thread.stop()
    if message.error is not None:
        raise message.error


def _next_jobs(jobs: Iterator[Any]) -> list[Any]:
    """Return some jobs, as many as there are at once; none at the end."""
    given: list[Any] = []
    until = time.monotonic() + MAX_WAIT_FOR_JOBS_S
    for job in jobs:
        given.append(job)
        if len(given) == MAX_JOBS_GIVEN or time.monotonic() > until:
            break
    return given


class _SessionThread:
    """Runs one session in a thread."""

    def __init__(self, session: Session) -> None:
        self.messages: SimpleQueue[Any] = SimpleQueue()
        """For the caller: WANTED, rows, and at last an _End."""
        self._session = session
        self._thread = Thread(target=self._run, name="processor.results", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._given: asyncio.Future[list[Any]] | None = None
        self._is_stopped = False

    def start(self) -> None:
        self._thread.start()

    def give(self, jobs: list[Any]) -> None:
        """Give the session the jobs that it wants; an empty list is the end of them."""
        assert self._loop is not None and self._given is not None, "the session asked for jobs"
        self._loop.call_soon_threadsafe(_set_result, self._given, jobs)

    def stop(self) -> None:
        """Cancel what is in flight, and return when the session has ended."""
        self._is_stopped = True
        if self._loop is not None and self._main is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=platform.event_loop_factory()) as runner:
                self._loop = runner.get_loop()
                runner.run(self._main_task())
        except BaseException as raised:  # noqa: BLE001 - it is raised again in the thread of the caller
            error = raised
        self.messages.put(_End(error))

    async def _main_task(self) -> None:
        self._main = asyncio.current_task()
        if self._is_stopped:
            return
        async with self._session as session, aclosing(session.results(self._jobs())) as rows:
            async for row in rows:
                self.messages.put(row)

    async def _jobs(self) -> AsyncGenerator[Any, None]:
        while True:
            self._given = asyncio.get_running_loop().create_future()
            self.messages.put(WANTED)
            jobs = await self._given
            if not jobs:
                return
            for job in jobs:
                yield job


def _set_result(future: asyncio.Future[list[Any]], jobs: list[Any]) -> None:
    if not future.done():
        future.set_result(jobs)
