"""Putting the two files right: at the start what a crash left, at the end what the run made superfluous.

A file is rewritten only where something changes.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from processor.output.compaction import compact, quarantine, temp_path, write_all
from processor.output.index_entry import FAILED, LINE, PERMANENT, REPLIED
from processor.output.job_index import SEEN_THIS_RUN, JobIndex
from processor.output.scanner import ScanReport, scan
from processor.output.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The files of one journal, all in one folder."""

    replies: Path
    failures: Path
    damaged: Path
    state: Path

    @classmethod
    def of(cls, results: Path) -> Paths:
        return cls(
            replies=results,
            failures=results.with_name(f"{results.stem}.errors.jsonl"),
            damaged=results.with_name(f"{results.stem}.damaged.jsonl"),
            state=results.with_name(f"{results.name}.state"),
        )


class Recovery:
    """All of it raises OSError; reading raises ConfigError, too, before anything is changed."""

    def __init__(self, disk: Storage, paths: Paths, index: JobIndex, *, simulated: bool) -> None:
        self._disk = disk
        self._paths = paths
        self._index = index
        self._simulated = simulated

    def start(self) -> dict[Path, ScanReport]:
        """Learn all rows, and repair both files. Returns what was found, by file."""
        for path in (self._paths.replies, self._paths.failures):
            if self._disk.exists(temp_path(path)):
                self._disk.remove(temp_path(path))
        replies, failures = self._scan(replies=True), self._scan(replies=False)
        self._put_right(replies, replies=True)
        self._put_right(failures, replies=False)
        self._index.files_with_stale_rows = 0
        return {self._paths.replies: replies, self._paths.failures: failures}

    def end(self, lines_read: int) -> None:
        """Drop superseded rows, and those of lines up to ``lines_read`` that are no longer wrong."""
        index = self._index
        index.lines_read = lines_read
        files_with_stale_rows = index.files_with_stale_rows
        if not files_with_stale_rows and not index.count(LINE, without=SEEN_THIS_RUN):
            return
        index.clear_flags(files_with_stale_rows & REPLIED | FAILED | PERMANENT | LINE)
        if files_with_stale_rows & REPLIED:
            self._put_right(self._scan(replies=True), replies=True)
        self._put_right(self._scan(replies=False), replies=False)

    def _scan(self, *, replies: bool) -> ScanReport:
        return scan(self._disk, self._path(replies), self._index, replies=replies, simulated=self._simulated)

    def _put_right(self, found: ScanReport, *, replies: bool) -> None:
        path = self._path(replies)
        if found.damaged:
            quarantine(self._disk, path, self._paths.damaged, replies=replies)
        if found.damaged or self._index.files_with_stale_rows & (REPLIED if replies else FAILED):
            left = compact(self._disk, path, replies=replies, keeps=self._index.should_keep)
            if not left and not replies:
                self._disk.remove(path)
                self._disk.sync_folder(path)
        elif found.torn or found.unended:
            self._mend(path, found)

    def _mend(self, path: Path, found: ScanReport) -> None:
        """Cut a torn line off, or end a whole one. Undone by a loss of power, it is done again."""
        with closing(self._disk.open(path, "append")) as file:
            if found.torn:
                file.truncate(found.size)
            else:
                write_all(file, b"\n")

    def _path(self, replies: bool) -> Path:
        return self._paths.replies if replies else self._paths.failures
