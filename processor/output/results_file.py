"""The results file is the journal: rows are appended whole, and the next run reads from them which jobs are done.

Beside RESULTS stand ``<stem>.errors.jsonl`` with the failures, ``<RESULTS>.state`` with the lock and the in-flight
log, and, only where damage was found, ``<stem>.damaged.jsonl`` with the lines that are not rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from pathlib import Path

from processor.core.errors import ConfigError, OutputError
from processor.core.job_keys import job_key
from processor.core.models import Result, RunInThread
from processor.output.appender import Appender, PendingRow
from processor.output.closing import ClosedOnce
from processor.output.earlier_replies import has_reply_of
from processor.output.fsync import FsyncScheduler
from processor.output.in_flight_log import IN_FLIGHT, PARKED, ErrorReporter, InFlightLog
from processor.output.index_entry import ANY_TARGET, INVALID_LINE, REPLIED, IndexEntry, RunTarget, entry_from_result
from processor.output.job_index import JobIndex
from processor.output.opening import lock_replies, lock_state, recover
from processor.output.paths import OutputPaths
from processor.output.recovery import Recovery
from processor.output.row_json import encode_row
from processor.output.sink import FsyncMode, RecoveredState
from processor.output.storage import LocalStorage, Storage, as_output_error, cannot_write

GROUP_COMMIT_S = 0.02
"""The least time between two writes of rows while other jobs are in flight, so that rows share a write."""


class ResultsFile(ClosedOnce):
    """A ``Sink`` on disk, made by ``open``.

    A failed row never replaces a reply: where a changed job is sent again and fails, its old reply stays, and the
    failure leaves no row.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        paths: OutputPaths,
        job_index: JobIndex,
        recovery: Recovery,
        recovered: RecoveredState,
        replies: Appender,
        in_flight_log: InFlightLog,
        is_new: bool,
        fsync_delay_s: float | None,
        run_in_thread: RunInThread,
    ) -> None:
        """Take over what ``open`` has opened, locked and repaired."""
        self.paths = paths
        self.job_index = job_index
        self.recovered = recovered
        self.storage = storage
        self._recovery = recovery
        self._replies = replies
        self._failures = Appender(storage, paths.failures)
        self.appenders = (self._replies, self._failures)
        self._in_flight_log = in_flight_log
        self._is_new = is_new
        """This run has created the results file."""
        self._fsync = FsyncScheduler(fsync_delay_s, run_in_thread, self._fail)
        self._run_in_thread = run_in_thread
        self._next_flush: asyncio.Handle | None = None
        self._flush_scheduled_now = False
        """The next flush is at the end of this iteration of the event loop."""
        self._earliest_flush_at = 0.0
        """On the event loop's clock; used only while other jobs are in flight."""
        self._error_message: str | None = None
        self._state_errors = ErrorReporter(partial(self._fail, paths.state))

    # ------------------------------------------------------------ opening

    @classmethod
    def open(
        cls,
        results: Path,
        *,
        simulated: bool = False,
        target: RunTarget = ANY_TARGET,
        fsync: FsyncMode = "interval",
        fsync_interval_s: float = 1.0,
        run_in_thread: RunInThread = asyncio.to_thread,
        storage: Storage | None = None,
    ) -> ResultsFile:
        """Lock the output, load the rows of earlier runs, and repair what a crash left. Blocks while it reads.

        Raises OutputError where the output is locked or cannot be written, ConfigError where a file is not a results
        file, has rows of the other kind (simulated or real), or is not of this program's making. What was created for
        it is then removed.
        """
        storage = storage or LocalStorage()
        paths = OutputPaths.of(results)
        paths.refuse_foreign(results)
        log = lock_state(storage, paths)
        index, replies = JobIndex(), Appender(storage, paths.replies)
        recovery = Recovery(storage, paths, index, replies, log.add_spent, simulated=simulated, target=target)
        is_new = not storage.exists(paths.replies)
        try:
            lock_replies(storage, paths, replies)
            recovered = recover(storage, paths, index, recovery, replies, log, sync=fsync != "never")
        except (OutputError, ConfigError):
            if is_new and replies.is_open:
                with suppress(OSError):
                    storage.remove(paths.replies)
            log.discard(storage, paths.state)
            replies.close()
            raise
        return cls(
            storage=storage,
            paths=paths,
            job_index=index,
            recovery=recovery,
            recovered=recovered,
            replies=replies,
            in_flight_log=log,
            is_new=is_new,
            fsync_delay_s={"always": 0.0, "interval": fsync_interval_s, "never": None}[fsync],
            run_in_thread=run_in_thread,
        )

    # ------------------------------------------------------------ the run

    def append(self, result: Result) -> Awaitable[None]:
        """See ``Sink``. The row is queued when this returns."""
        self._raise_if_unusable()
        raw = encode_row(result)
        entry = entry_from_result(result, raw)
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        if entry.flags & REPLIED:
            appender = self._replies
        elif self._needs_failed_row(result, entry):
            appender = self._failures
        else:
            written.set_result(None)
            return written
        appender.pending.append(PendingRow(raw, entry, written))
        if not self._flush_scheduled_now:
            self._schedule_flush(loop)
        return written

    def _needs_failed_row(self, result: Result, entry: IndexEntry) -> bool:
        """Whether a failed row is to be written. If not, nothing of its job is in flight."""
        if entry.flags & INVALID_LINE:
            return self.job_index.classify_invalid(entry.key)
        if not self.job_index.has_reply(entry.key):
            return True
        self.clear_in_flight(result.custom_id or "", result.attempts)
        return False

    async def sync(self) -> None:
        """Return when the rows written so far survive a loss of power. Raises OutputError."""
        await self._fsync.sync_now()
        self._raise_if_unusable()

    def record_in_flight(self, custom_id: str, attempts: int, worst_pico: int | None = None) -> None:
        """See ``Sink``."""
        self._raise_if_unusable()
        key = job_key(custom_id)
        try:
            if worst_pico is not None:
                self._in_flight_log.write_worst_case(key, worst_pico)
            self._in_flight_log.write(key, attempts, IN_FLIGHT)
        except OSError as error:
            self._fail(self.paths.state, error)
            self._raise_if_unusable()

    def add_spent(self, pico: int) -> None:
        """See ``Sink``."""
        with self._state_errors:
            self._in_flight_log.add_spent(pico)

    def clear_in_flight(self, custom_id: str, attempts: int) -> None:
        """See ``Sink``."""
        with self._state_errors:
            self._in_flight_log.mark_idle(job_key(custom_id), attempts)

    def record_parked(self, custom_id: str, attempts: int) -> None:
        """See ``Sink``."""
        with self._state_errors:
            self._in_flight_log.write(job_key(custom_id), attempts, PARKED)

    async def has_earlier_reply(self, endpoint: str, model: str) -> bool:
        """See ``Sink``."""
        if not self.recovered.replied:
            return False
        path, size = self.paths.replies, self.recovered.replies.size
        with as_output_error(path):
            return await self._run_in_thread(lambda: has_reply_of(self.storage, path, size, endpoint, model))

    def free_bytes(self) -> int:
        with as_output_error(self.paths.replies):
            return self.storage.free_bytes(self.paths.replies)

    def _schedule_flush(self, loop: asyncio.AbstractEventLoop) -> None:
        """Flush at once if no other job in flight could add a row, else GROUP_COMMIT_S after the last flush."""
        pending = len(self._replies.pending) + len(self._failures.pending)
        self._flush_scheduled_now = pending >= self._in_flight_log.in_flight
        if self._flush_scheduled_now:
            if self._next_flush:
                self._next_flush.cancel()
            self._next_flush = loop.call_soon(self._flush)
        elif not self._next_flush:
            self._next_flush = loop.call_at(self._earliest_flush_at, self._flush)

    def _flush(self) -> None:
        self._next_flush, self._flush_scheduled_now = None, False
        self._earliest_flush_at = asyncio.get_running_loop().time() + GROUP_COMMIT_S
        for appender in self.appenders:
            if not appender.pending:
                continue
            written, error = appender.flush()
            entries = [row.entry for row in written if not row.entry.flags & INVALID_LINE]
            self.job_index.record_rows(entries)
            self._in_flight_log.mark_done(entry.key for entry in entries)
            self._fsync.on_written(appender, written)
            if error:
                self._fail(appender.path, error)

    def _fail(self, path: Path, error: OSError) -> None:
        """Write nothing more, and raise OutputError in all callers that wait for a row.

        The next run continues from what the disk holds now.
        """
        if self._error_message is None:
            self._error_message = cannot_write(path, error)
        unwritten = self._replies.pending + self._failures.pending + self._fsync.take_unsynced_rows()
        self._replies.pending, self._failures.pending = [], []
        for row in unwritten:
            if not row.written.done():
                row.written.set_exception(OutputError(self._error_message))

    def _raise_if_unusable(self) -> None:
        if self._error_message is not None:
            raise OutputError(self._error_message)
        if self._closing:
            raise OutputError(f"{self.paths.replies} is closed")

    # ------------------------------------------------------------ closing

    async def _close(self, lines_read: int | None, nothing_sent: bool) -> None:
        try:
            await self._finish(lines_read)
            if nothing_sent and self._is_new:
                self._discard_if_empty()
        except OutputError:
            self._release()
            raise
        # No ``finally``: if the loop ends and cancels this, a thread may be writing, and must keep the lock.
        self._release()

    async def _finish(self, lines_read: int | None) -> None:
        self._flush()
        await self._fsync.finish()
        if self._error_message is not None:
            raise OutputError(self._error_message)
        for appender in self.appenders:
            with as_output_error(appender.path):
                appender.raise_if_changed()
        if self._replies.may_be_overwritten:
            with as_output_error(self.paths.replies):
                await self._run_in_thread(self._recovery.raise_if_rows_are_lost)
        self._failures.close()
        with as_output_error(self.paths.replies):
            if lines_read is not None:
                await self._run_in_thread(lambda: self._recovery.drop_stale_rows(lines_read))
            self._replies.raise_if_changed()
        with as_output_error(self.paths.state):
            self._in_flight_log.truncate_if_empty()

    def _discard_if_empty(self) -> None:
        """Remove the files of this run where they hold nothing: it has left the folder as it was."""
        paths, storage = self.paths, self.storage
        if self._replies.size or storage.exists(paths.failures) or not self._in_flight_log.is_empty:
            return
        with suppress(OSError):
            storage.remove(paths.replies)
            if self._in_flight_log.is_new:
                storage.remove(paths.state)

    def _release(self) -> None:
        self._replies.close()
        self._failures.close()
        self._in_flight_log.close()
