"""The results file is the journal: rows are appended whole, and a later run reads in them what is done.

Beside RESULTS stand ``<stem>.errors.jsonl`` with the failures, ``<RESULTS>.state`` with the lock and the intents,
and, only where something was found broken, ``<stem>.damaged.jsonl`` with the lines that were no rows.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from processor.core.errors import ConfigError, OutputError
from processor.core.job_keys import job_key
from processor.core.models import Result
from processor.output.appender import Appender, Pending
from processor.output.fsync import FsyncScheduler
from processor.output.in_flight_log import InFlightLog
from processor.output.index_entry import FAILED, LINE, REPLIED, entry_of
from processor.output.job_index import JobIndex
from processor.output.recovery import Paths, Recovery
from processor.output.row_json import encode
from processor.output.sink import FsyncMode, RunInThread
from processor.output.storage import LocalStorage, Storage, StorageFile
from processor.output.trouble import as_output_error, cannot_write

GROUP_COMMIT_S = 0.02
"""Between two writes of rows: many jobs a second share them, unless nobody is left who could add to the next one."""


class ResultsFile:
    """Making one takes the lock, reads what is done, and repairs what a crash left; it blocks while it reads.

    Raises OutputError where the output is locked or cannot be written, ConfigError where it holds something else.

    ``replied`` and ``failed`` count the jobs with such a row at the start, ``found`` tells by file of torn and
    damaged lines, ``maybe_billed`` how many requests of the last run may have been billed without a reply.

    A failed row never replaces a reply: when a changed job is sent again and fails, its old reply stays, and the
    failure leaves no row.
    """

    def __init__(
        self,
        results: Path,
        *,
        simulated: bool = False,
        fsync: FsyncMode = "interval",
        fsync_interval_s: float = 1.0,
        run_in_thread: RunInThread = asyncio.to_thread,
        storage: Storage | None = None,
    ) -> None:
        self.paths = Paths.of(results)
        self.job_index = JobIndex()
        self._disk = storage or LocalStorage()
        self._upkeep = Recovery(self._disk, self.paths, self.job_index, simulated=simulated)
        self._replies = Appender(self._disk, self.paths.replies)
        self._failures = Appender(self._disk, self.paths.failures)
        delay_s = {"always": 0.0, "interval": fsync_interval_s, "never": None}[fsync]
        self._syncer = FsyncScheduler(delay_s, run_in_thread, self._break)
        self._syncs = delay_s is not None
        self._offload = run_in_thread
        self._next_flush: asyncio.Handle | None = None
        self._hurries = False
        """It comes at the end of this turn of the loop."""
        self._flush_at = 0.0
        """Not before that, where others are in flight."""
        self._closing: asyncio.Task[None] | None = None
        self._broken: str | None = None
        self._state, is_new = self._lock()
        self._intents = InFlightLog(self._state)
        try:
            self._start()
        except (OutputError, ConfigError):
            if is_new:
                with suppress(OSError):
                    self._disk.remove(self.paths.state)
            self._release()
            raise

    # ------------------------------------------------------------ opening

    def _lock(self) -> tuple[StorageFile, bool]:
        """The state file, locked, and whether it was made for it."""
        with as_output_error(self.paths.state):
            is_new = not self._disk.exists(self.paths.state)
            state = self._disk.open(self.paths.state, "update")
            try:
                locked = state.lock()
                if locked and not state.is_deleted():
                    return state, is_new
            except OSError:
                state.close()
                raise
            state.close()
        if locked:  # by now another run has been refused, and has taken away what it had made
            return self._lock()
        raise OutputError(f"another run is writing to {self.paths.replies}: wait for it, or give another --out")

    def _start(self) -> None:
        with as_output_error(self.paths.replies):
            self.found = self._upkeep.start()
            self._replies.open()
            self.replied, self.failed = self.job_index.count(REPLIED), self.job_index.count(FAILED)
            if self.replied and self._syncs:
                # A killed run may have left rows, and a new name, that were never synced; this one counts on them.
                self._replies.sync()
                self._disk.sync_folder(self.paths.replies)
        with as_output_error(self.paths.state):
            self.maybe_billed = self._take_over()

    def _take_over(self) -> int:
        """Learn what the last run left in flight, and forget what has its row after all."""
        unanswered = 0
        for key, attempts, in_flight in list(self._intents.load()):
            if not self.job_index.raise_attempts(key, attempts):
                self._intents.erase(key)
            elif in_flight:
                unanswered += 1
                self._intents.mark_idle(key, attempts)
        return unanswered

    # ------------------------------------------------------------ the run

    async def append(self, result: Result) -> None:
        """Return when the row is written, or with ``fsync="always"`` when it is synced. Raises OutputError.

        The row is on its way before the first wait: cancelling the caller does not undo it.
        """
        self._check()
        raw = encode(result)
        entry = entry_of(result, raw[:-1])
        if entry.flags & LINE:
            if not self.job_index.classify_invalid(entry.key):
                return
        elif entry.flags & FAILED and self.job_index.has_reply(entry.key):
            self.clear_in_flight(result.custom_id or "", result.attempts)
            return
        loop = asyncio.get_running_loop()
        item = Pending(raw, entry, loop.create_future())
        (self._replies if entry.flags & REPLIED else self._failures).pending.append(item)
        if not self._hurries:
            self._flush_soon(loop)
        await item.written

    def record_in_flight(self, custom_id: str, attempts: int) -> None:
        """See ``Sink``."""
        self._check()
        try:
            self._intents.write(job_key(custom_id), attempts, in_flight=True)
        except OSError as error:
            self._break(self.paths.state, error)
            self._check()

    def clear_in_flight(self, custom_id: str, attempts: int) -> None:
        """See ``Sink``."""
        try:
            self._intents.mark_idle(job_key(custom_id), attempts)
        except OSError as error:
            self._break(self.paths.state, error)

    def free_bytes(self) -> int:
        """Room for what is still to come. Raises OutputError."""
        with as_output_error(self.paths.replies):
            return self._disk.free_bytes(self.paths.replies)

    def _flush_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """At the end of this turn of the loop; under load together with what others add in a moment."""
        pending = len(self._replies.pending) + len(self._failures.pending)
        self._hurries = pending >= self._intents.in_flight
        if self._hurries:
            if self._next_flush:
                self._next_flush.cancel()
            self._next_flush = loop.call_soon(self._flush)
        elif not self._next_flush:
            self._next_flush = loop.call_at(self._flush_at, self._flush)

    def _flush(self) -> None:
        self._next_flush, self._hurries = None, False
        self._flush_at = asyncio.get_running_loop().time() + GROUP_COMMIT_S
        for appender in (self._replies, self._failures):
            if not appender.pending:
                continue
            written, error = appender.flush()
            for item in written:
                if not item.entry.flags & LINE:
                    self.job_index.record_row(item.entry)
                    self._intents.mark_done(item.entry.key)
            self._syncer.wrote(appender, written)
            if error:
                self._break(appender.path, error)

    def _break(self, path: Path, error: OSError) -> None:
        """Nothing more is written: what the disk holds now is what the next run goes on from."""
        if self._broken is None:
            self._broken = cannot_write(path, error)
        waiting = self._replies.pending + self._failures.pending + self._syncer.abandon()
        self._replies.pending, self._failures.pending = [], []
        for item in waiting:
            if not item.written.done():
                item.written.set_exception(OutputError(self._broken))

    def _check(self) -> None:
        if self._broken is not None:
            raise OutputError(self._broken)
        if self._closing:
            raise OutputError(f"{self.paths.replies} is closed")

    # ------------------------------------------------------------ closing

    async def close(self, lines_read: int | None = None) -> None:
        """See ``Sink``. Raises OutputError also for what went wrong after the last ``append``.

        Cancelling the caller does not break it off.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(lines_read))
        await asyncio.shield(self._closing)

    async def _close(self, lines_read: int | None) -> None:
        try:
            await self._finish(lines_read)
        except OutputError:
            self._release()
            raise
        # Not where the loop ends and cancels this: a thread may be at work, and the lock then holds until it is done.
        self._release()

    async def _finish(self, lines_read: int | None) -> None:
        self._flush()
        await self._syncer.finish()
        if self._broken is not None:
            raise OutputError(self._broken)
        for appender in (self._replies, self._failures):
            with as_output_error(appender.path):
                appender.check()
        with as_output_error(self.paths.replies):
            if lines_read is not None:
                await self._offload(lambda: self._upkeep.end(lines_read))
        with as_output_error(self.paths.state):
            self._intents.truncate_if_empty()

    def _release(self) -> None:
        self._replies.close()
        self._failures.close()
        self._state.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_told = error is not None or self._closing is not None
        try:
            await self.close()
        except OutputError:
            if not is_told:
                raise
