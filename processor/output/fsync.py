"""Schedules fsync: within a bounded delay, one at a time, and not on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from processor.core.models import RunInThread
from processor.output.appender import Appender, PendingRow


class FsyncScheduler:
    """Syncs files ``delay_s`` after a write to them.

    With a delay of 0 a row counts as written only after its fsync. With None nothing is synced: the operating system
    decides. ``on_error`` is called, once, with the path of the file that could not be synced.
    """

    def __init__(
        self, delay_s: float | None, run_in_thread: RunInThread, on_error: Callable[[Path, OSError], None]
    ) -> None:
        self._delay_s = delay_s
        self._run_in_thread = run_in_thread
        self._on_error = on_error
        self._dirty: dict[Appender, None] = {}
        """An ordered set: tests that fail one I/O step need the same order in each run."""
        self._unsynced_rows: list[PendingRow] = []
        self._task: asyncio.Task[None] | None = None
        self._is_hurried = asyncio.Event()
        """Set while somebody waits for the sync."""

    def on_written(self, appender: Appender, rows: list[PendingRow]) -> None:
        """Have the file synced that these rows were written to, and report the rows when they count as written."""
        if self._delay_s == 0:
            self._unsynced_rows += rows
        else:
            report_written(rows)
        if self._delay_s is None:
            return
        self._dirty[appender] = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._sync_dirty_files())

    def take_unsynced_rows(self) -> list[PendingRow]:
        """Hand over the rows that are written, not synced, and not reported."""
        rows, self._unsynced_rows = self._unsynced_rows, []
        return rows

    async def sync_now(self) -> None:
        """Return when all that has been written is synced. Errors are reported as those of other syncs."""
        if self._delay_s is None:
            return
        self._is_hurried.set()
        while self._task and not self._task.done():
            await asyncio.shield(self._task)
        self._is_hurried.clear()

    async def finish(self) -> None:
        """Sync what is not synced, without further delay."""
        self._is_hurried.set()
        if self._task:
            await self._task

    async def _sync_dirty_files(self) -> None:
        while self._dirty:
            await self._wait_for_delay()
            dirty, self._dirty = self._dirty, {}
            rows, self._unsynced_rows = self._unsynced_rows, []
            for appender in dirty:
                try:
                    await self._run_in_thread(appender.sync)
                except OSError as error:
                    self._unsynced_rows = rows + self._unsynced_rows
                    self._on_error(appender.path, error)
                    return
            report_written(rows)

    async def _wait_for_delay(self) -> None:
        if self._delay_s and not self._is_hurried.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_hurried.wait(), self._delay_s)


def report_written(rows: list[PendingRow]) -> None:
    """Let the callers of ``append`` that wait for these rows go on."""
    for row in rows:
        if not row.written.done():
            row.written.set_result(None)
