"""Reads a large job file of which many jobs are done: done jobs are only counted, other lines are read in full."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from typing import Generic, Protocol, TypeVar

from processor.core import platform
from processor.core.fast_dataclass import dataclass
from processor.core.job_keys import PACKED_IDENTITY
from processor.core.models import ByteRange, SourceFile
from processor.input.job_formats import JobDefaults
from processor.input.line_splitter import CHUNK_BYTES, Line, LineSplitter, raise_if_cut
from processor.input.prescan import ScannedPart, scan_part, split_file

InputItem = TypeVar("InputItem")


class SkipDone(Protocol):
    """Marks the jobs ``begin <= number < end`` as seen, up to the first that is not done.

    Returns the number of that job, and how many jobs before it have failed permanently. ``identities`` are packed
    with PACKED_IDENTITY.
    """

    def __call__(self, identities: bytes, begin: int, end: int, /) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedJobs:
    """Consecutive jobs with nothing to be done."""

    count: int
    permanent_failures: int
    """How many of them have no reply, but a permanent failure."""
    last_line: int
    """The number of the line of the last of them, or of a blank line behind it."""
    source: SourceFile | None = None
    """Their file; None where the run has only one."""


class DoneJobSkipper(Generic[InputItem]):
    """Iterates once over an open file. Handle each item before you ask for the next: it decides what is skipped."""

    def __init__(
        self,
        file_descriptor: int,
        defaults: JobDefaults,
        max_line_bytes: int,
        *,
        parse_line: Callable[[Line], InputItem],
        skip_done: SkipDone,
        limit: int | None,
    ) -> None:
        """Skip jobs only among the first ``limit`` lines that are not blank."""
        self._file_descriptor = file_descriptor
        self._scan_part = partial(scan_part, file_descriptor, defaults, max_line_bytes)
        self._splitter = LineSplitter(max_line_bytes)
        self._parse_line = parse_line
        self._source = defaults.source
        self._skip_done = skip_done
        self._lines_left = sys.maxsize if limit is None else limit

    def __iter__(self) -> Generator[InputItem | SkippedJobs, None, None]:
        from processor.core.worker_process import map_with_worker  # importing it takes longer than a small file

        parts = map_with_worker(
            self._scan_part, split_file(self._file_descriptor), file_descriptors=[self._file_descriptor]
        )
        with closing(parts):
            for part in parts:
                yield from self._process_part(part)

    def _process_part(self, scanned: ScannedPart) -> Iterator[InputItem | SkippedJobs]:
        """Skip the part if all its jobs are done, else read its lines."""
        identities = scanned.identities or b""
        skipped, permanent_failures = self._skip_from(identities, 0)
        if scanned.identities is None or skipped < len(identities) // PACKED_IDENTITY.size:
            yield from self._read_part(scanned.part, identities, skipped, permanent_failures)
            return
        self._splitter.skip(scanned.lines)
        if skipped:
            yield self._skipped(skipped, permanent_failures, self._splitter.number)

    def _read_part(
        self, part: ByteRange, identities: bytes, skipped: int, permanent_failures: int
    ) -> Iterator[InputItem | SkippedJobs]:
        """Yield the lines of a part. Those up to number ``skipped`` are skipped already."""
        parsed = 0
        for number, line in enumerate(self._lines(part), 1):
            if number == skipped:
                yield self._skipped(skipped - parsed, permanent_failures, line.number)
            elif number > skipped:
                self._lines_left -= 1
                yield self._parse_line(line)
                parsed = number
                skipped, permanent_failures = self._skip_from(identities, number)

    def _skipped(self, count: int, permanent_failures: int, last_line: int) -> SkippedJobs:
        return SkippedJobs(count=count, permanent_failures=permanent_failures, last_line=last_line, source=self._source)

    def _skip_from(self, identities: bytes, begin: int) -> tuple[int, int]:
        """Skip jobs from number ``begin`` on. Return the number of the first that is not skipped, and how many of the
        skipped ones have failed permanently."""
        end = min(len(identities) // PACKED_IDENTITY.size, begin + self._lines_left)
        if end <= begin:
            return begin, 0
        skipped, permanent_failures = self._skip_done(identities, begin, end)
        self._lines_left -= skipped - begin
        return skipped, permanent_failures

    def _lines(self, part: ByteRange) -> Iterator[Line]:
        at, end = part
        while at < end and (chunk := platform.read_at(self._file_descriptor, min(CHUNK_BYTES, end - at), at)):
            at += len(chunk)
            yield from self._splitter.feed(chunk)
        raise_if_cut(at, end)
        if last := self._splitter.finish():
            yield last
