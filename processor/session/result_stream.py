"""Hands over the jobs of one iterable, and collects their rows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol

from processor.core.models import JSON
from processor.input.line_splitter import LINES_PER_TURN
from processor.scheduler.dependencies import LOOK_AHEAD
from processor.session.answers import Answer, Left, OnAnswer, OpenJob, RunStopped
from processor.session.handed_over import QueueShare

MAX_QUEUED = 32
"""Jobs of one iterable that the run has not read yet."""


class HandOver(Protocol):
    """See ``Session._hand_over``."""

    def __call__(self, job: object, on_answer: OnAnswer, share: QueueShare, /) -> OpenJob | None: ...


class Abandon(Protocol):
    """See ``Session._abandon``."""

    def __call__(self, opened: OpenJob, on_answer: OnAnswer, /) -> None: ...


class ResultStream:
    """Reads its iterable in a task of its own, from the start until it is closed.

    Memory is bounded: at most LOOK_AHEAD finished rows, MAX_QUEUED jobs in the queue, and the jobs that the run has
    read, which are the requests in flight and up to LOOK_AHEAD jobs that wait.
    """

    def __init__(self, hand_over: HandOver, abandon: Abandon, jobs: Iterable[Any] | AsyncIterable[Any]) -> None:
        self._hand_over = hand_over
        self._abandon = abandon
        self._open: dict[int, tuple[OpenJob, OnAnswer]] = {}
        """By place in the iterable."""
        self._rows: deque[JSON] = deque()
        self._left: Left | None = None
        """Why the first job that has no row has none."""
        self._left_in_a_row = 0
        self._room = asyncio.Event()
        """Set when there may be room for a further job."""
        self._news = asyncio.Event()
        """Set when ``next`` has to look again."""
        self._share = QueueShare(self._room.set)
        self._feeder = asyncio.create_task(self._feed(jobs), name="processor.Session.results")
        self._feeder.add_done_callback(lambda _: self._news.set())

    async def next(self) -> JSON | None:
        """Return the next row; None where all have been returned. Raises RunStopped and what the iterable raises."""
        while not self._rows:
            if self._feeder.done():
                self._raise_error_of_jobs()
                if not self._open:
                    self._raise_if_left()
                    return None
            self._news.clear()
            await self._news.wait()
        self._room.set()
        return self._rows.popleft()

    def close(self, reason: str) -> None:
        """Read no further, and wait for no row. ``reason``: why later calls of ``next`` raise RunStopped."""
        if self._open or not self._feeder.done():
            self._left = Left(reason)
        self._feeder.cancel()
        for opened, on_answer in self._open.values():
            self._abandon(opened, on_answer)
        self._open.clear()
        self._news.set()

    def _raise_error_of_jobs(self) -> None:
        if not self._feeder.cancelled() and (error := self._feeder.exception()) is not None:
            raise error

    def _raise_if_left(self) -> None:
        if self._left is not None:
            raise RunStopped(self._left.reason)

    async def _feed(self, jobs: Iterable[Any] | AsyncIterable[Any]) -> None:
        place = 0
        async with aclosing(_as_async(jobs)) as all_jobs:
            async for job in all_jobs:
                place += 1
                self._start(place, job)
                if self._left_in_a_row >= LOOK_AHEAD:
                    return  # nothing like these jobs is sent any more
                while self._share.queued >= MAX_QUEUED or len(self._rows) >= LOOK_AHEAD:
                    self._room.clear()
                    await self._room.wait()
                if place % LINES_PER_TURN == 0:
                    await asyncio.sleep(0)

    def _start(self, place: int, job: object) -> None:
        on_answer = partial(self._on_answer, place)
        opened = self._hand_over(job, on_answer, self._share)
        if opened is not None:
            self._open[place] = opened, on_answer

    def _on_answer(self, place: int, answer: Answer) -> None:
        self._open.pop(place, None)
        if isinstance(answer, Left):
            self._left = self._left or answer
            self._left_in_a_row += 1
        else:
            self._left_in_a_row = 0
            self._rows.append(answer)
        self._news.set()


async def _as_async(jobs: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    if isinstance(jobs, AsyncIterable):
        async for job in jobs:
            yield job
    else:
        for job in jobs:
            yield job
