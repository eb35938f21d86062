"""fsync, bounded in time: never more than one at once, never on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from processor.output.appender import Appender, Pending
from processor.output.sink import RunInThread


class FsyncScheduler:
    """``delay_s`` 0: rows count as written after their fsync. None: the operating system decides."""

    def __init__(
        self, delay_s: float | None, run_in_thread: RunInThread, on_error: Callable[[Path, OSError], None]
    ) -> None:
        self._delay_s = delay_s
        self._offload = run_in_thread
        self._on_error = on_error
        self._dirty: dict[Appender, None] = {}
        """A set with an order: faults that are injected step by step replay."""
        self._waiting: list[Pending] = []
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    def wrote(self, appender: Appender, rows: list[Pending]) -> None:
        """These rows have been written: have them synced, and tell their waiters when they are."""
        if self._delay_s == 0:
            self._waiting += rows
        else:
            release(rows)
        self.touch(appender)

    def touch(self, appender: Appender) -> None:
        if self._delay_s is None:
            return
        self._dirty[appender] = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def abandon(self) -> list[Pending]:
        """Hand back the rows whose waiters have not been told."""
        rows, self._waiting = self._waiting, []
        return rows

    async def finish(self) -> None:
        """Sync what is not synced, now."""
        self._hurry.set()
        if self._task:
            await self._task

    async def _run(self) -> None:
        while self._dirty:
            await self._pause()
            dirty, self._dirty = self._dirty, {}
            rows, self._waiting = self._waiting, []
            for appender in dirty:
                try:
                    await self._offload(appender.sync)
                except OSError as error:
                    self._waiting = rows + self._waiting
                    self._on_error(appender.path, error)
                    return
            release(rows)

    async def _pause(self) -> None:
        if self._delay_s and not self._hurry.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), self._delay_s)


def release(rows: list[Pending]) -> None:
    for item in rows:
        if not item.written.done():
            item.written.set_result(None)
