"""Repairs the files of an output: at the start what a crash left, at the end what the run superseded.

A file is rewritten only where something changes.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from processor.core.errors import ConfigError
from processor.core.fast_dataclass import dataclass
from processor.core.text import setting_name
from processor.output.appender import Appender, FileChangedError
from processor.output.block_reader import BLOCK_BYTES, read_block
from processor.output.compaction import compact, compacted_path, overwrite_from_compacted, quarantine, temp_path
from processor.output.in_flight_log import IN_FLIGHT, PARKED, InFlightLog, LoggedJob
from processor.output.index_entry import FAILED, INVALID_LINE, PERMANENT, REPLIED, RunTarget
from processor.output.job_index import SEEN_THIS_RUN, JobIndex
from processor.output.paths import OutputPaths
from processor.output.scanner import ScanReport, scan_file
from processor.output.storage import Storage, StorageFile, write_all


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftInFlight:
    """What the last run left in the in-flight log."""

    count: int
    """Requests in flight when it was killed."""
    parked: frozenset[bytes]
    """Keys of the jobs that were parked."""
    broken_off_pico: int
    """What the requests in flight may have cost, in 1e-12 USD, where it is known."""
    unpriced: frozenset[bytes]
    """Keys of the jobs in flight for which it is not."""


class Recovery:
    """Reads the rows of an output into the job index, and repairs its files. All methods raise OSError."""

    def __init__(
        self,
        storage: Storage,
        paths: OutputPaths,
        index: JobIndex,
        replies: Appender,
        record_dropped: Callable[[int], None],
        *,
        simulated: bool,
        target: RunTarget,
    ) -> None:
        """``replies`` holds the results file, open and locked; a compacted one takes its place there.
        ``record_dropped``: see ``compact``."""
        self._record_dropped = record_dropped
        self.target = target
        self._replies = replies
        self._storage = storage
        self._paths = paths
        self._index = index
        self._simulated = simulated

    def load_and_repair(self) -> tuple[ScanReport, ScanReport]:
        """Load all rows into the index, and repair both files. Return what was found in the replies and the failures.

        Raises ConfigError, before anything but old temporary files is changed, where a file is not a results file, or
        has rows of the other kind (simulated or real).
        """
        for path in (self._paths.replies, self._paths.failures):
            if self._storage.exists(temp_path(path)):
                self._storage.remove(temp_path(path))
            if self._storage.exists(compacted_path(path)):
                self._refuse_foreign_rows(compacted_path(path), replies=path == self._paths.replies)
                overwrite_from_compacted(self._storage, path)
        replies, failures = self._scan(replies=True), self._scan(replies=False)
        self._repair(replies, replies=True)
        self._repair(failures, replies=False)
        self._index.files_with_stale_rows = 0
        return replies, failures

    def load_in_flight(self, log: InFlightLog, logged: Sequence[LoggedJob]) -> LeftInFlight:
        """Load the attempts of unfinished jobs into the index. Return what was in flight, and what was parked.

        Records of requests in flight become idle, and their worst cases are added to what was spent; records of jobs
        that have their row are erased.
        """
        is_open = [self._index.raise_attempts(job.key, job.attempts) for job in logged]
        in_flight = [job for job, is_left in zip(logged, is_open, strict=True) if is_left and job.state == IN_FLIGHT]
        broken_off = sum(job.worst_pico or 0 for job in in_flight)
        log.add_spent(broken_off)
        for job, is_left in zip(logged, is_open, strict=True):
            if not is_left:
                log.erase(job.key)
            elif job.state == IN_FLIGHT:
                log.mark_idle(job.key, job.attempts)
        return LeftInFlight(
            count=len(in_flight),
            parked=frozenset(
                job.key for job, is_left in zip(logged, is_open, strict=True) if is_left and job.state == PARKED
            ),
            broken_off_pico=broken_off,
            unpriced=frozenset(job.key for job in in_flight if job.worst_pico is None),
        )

    def raise_if_rows_are_lost(self) -> None:
        """Read the results file again. Raise FileChangedError where jobs have no reply there any more."""
        index, stale = self._index, self._index.files_with_stale_rows
        replied = index.count(REPLIED)
        index.clear_flags(REPLIED)
        self._scan(replies=True)
        index.files_with_stale_rows |= stale
        if lost := replied - index.count(REPLIED):
            raise FileChangedError(f"another program has overwritten rows: {lost} of {replied} replies are lost")

    def drop_stale_rows(self, lines_read: int) -> None:
        """Drop superseded rows, and rows of invalid lines up to ``lines_read`` that this run has not found again."""
        index = self._index
        index.lines_read = lines_read
        stale = index.files_with_stale_rows
        if not stale and not index.count(INVALID_LINE, without=SEEN_THIS_RUN):
            return
        index.clear_flags(stale & REPLIED | FAILED | PERMANENT | INVALID_LINE)
        if stale & REPLIED:
            self._repair(self._scan(replies=True), replies=True)
        self._repair(self._scan(replies=False), replies=False)

    def _refuse_foreign_rows(self, path: Path, *, replies: bool) -> None:
        """Raise ConfigError where the first block of a file holds anything but rows."""
        with closing(self._storage.open(path, "read")) as file:
            block = read_block(file, 0, BLOCK_BYTES, replies=replies)
        if block.damaged or block.torn_bytes:
            raise ConfigError(
                f"{path} was not written by this program: move it away, or give another {setting_name('out')}"
            )

    def _scan(self, *, replies: bool) -> ScanReport:
        return scan_file(
            self._storage,
            self._path(replies),
            self._index,
            replies=replies,
            simulated=self._simulated,
            target=self.target,
        )

    def _repair(self, report: ScanReport, *, replies: bool) -> None:
        path = self._path(replies)
        if report.damaged:
            quarantine(self._storage, path, self._paths.damaged, replies=replies)
        if report.damaged or self._index.files_with_stale_rows & (REPLIED if replies else FAILED):
            if replies and not self._storage.can_replace_open_files:
                self._replies.close()
            should_keep, record_dropped = self._index.should_keep, self._record_dropped
            kept, file = compact(self._storage, path, should_keep, record_dropped, replies=replies)
            if replies:
                self._continue_in(file)
            elif file:
                file.close()
            if not kept and not replies:
                self._storage.remove(path)
                self._storage.sync_folder(path)
        elif report.is_torn or report.missing_newline:
            self._fix_tail(path, report)

    def _continue_in(self, compacted: StorageFile | None) -> None:
        if compacted:
            self._replies.reopen_in(compacted)
        elif not self._storage.can_replace_open_files and not self._replies.open_locked():
            raise OSError(errno.EBUSY, "another program has locked the file")
        self._replies.continue_at_end()

    def _fix_tail(self, path: Path, report: ScanReport) -> None:
        """Cut off a torn line, or add a missing newline. If a loss of power undoes it, the next run repeats it."""
        with closing(self._storage.open(path, "append")) as file:
            if report.is_torn:
                file.truncate(report.size)
            else:
                write_all(file.write, b"\n")

    def _path(self, replies: bool) -> Path:
        return self._paths.replies if replies else self._paths.failures
