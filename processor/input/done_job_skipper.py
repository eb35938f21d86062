"""Large job files of which much is settled: those jobs are only counted, the other lines read as ever."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar

from processor.core.job_keys import IDENTITY
from processor.input.job_formats import JobDefaults
from processor.input.line_splitter import Line, LineSplitter
from processor.input.prescan import ByteRange, ScannedPart, scan_part, split_file

CHUNK_BYTES = 64 * 1024

InputItem = TypeVar("InputItem")


class SkipDone(Protocol):
    """Meets the jobs ``begin <= number < end`` as long as nothing is to be done about them.

    Returns the number of the first about which there is, and how many before it were refused for their own fault.
    ``identities`` are packed, see ``skimming``.
    """

    def __call__(self, identities: bytes, begin: int, end: int, /) -> tuple[int, int]: ...


class SkippedJobs(NamedTuple):
    """Lines at a stretch about whose jobs there is nothing to be done."""

    jobs: int
    refused: int
    """How many of them have no reply, since it was their own fault."""
    line: int
    """Where the last of them is, or a blank line behind it."""


class DoneJobSkipper(Generic[InputItem]):
    """Reads an open file once. Each thing found is to be dealt with before the next is asked for."""

    def __init__(
        self,
        handle: int,
        defaults: JobDefaults,
        max_line_bytes: int,
        *,
        read: Callable[[Line], InputItem],
        skip_done: SkipDone,
        limit: int | None,
    ) -> None:
        """Of more than ``limit`` lines none is passed over."""
        self._handle = handle
        self._skim = partial(scan_part, handle, defaults, max_line_bytes)
        self._splitter = LineSplitter(max_line_bytes)
        self._read = read
        self._pass_over = skip_done
        self._left = sys.maxsize if limit is None else limit

    def __iter__(self) -> Generator[InputItem | SkippedJobs, None, None]:
        from processor.core.worker_process import map_with_worker  # its import takes longer than a small file

        with closing(map_with_worker(self._skim, split_file(self._handle), handles=[self._handle])) as found:
            for skimmed in found:
                yield from self._pass_or_look(skimmed)

    def _pass_or_look(self, skimmed: ScannedPart) -> Iterator[InputItem | SkippedJobs]:
        identities = skimmed.identities or b""
        passed, refused = self._pass_on(identities, 0)
        if skimmed.identities is None or passed < len(identities) // IDENTITY.size:
            yield from self._look(skimmed.part, identities, passed, refused)
            return
        self._splitter.skip(skimmed.lines)
        if passed:
            yield SkippedJobs(passed, refused, self._splitter.number)

    def _look(self, part: ByteRange, identities: bytes, passed: int, refused: int) -> Iterator[InputItem | SkippedJobs]:
        met = 0
        for number, line in enumerate(self._lines(part), 1):
            if number == passed:
                yield SkippedJobs(passed - met, refused, line.number)
            elif number > passed:
                self._left -= 1
                yield self._read(line)
                met = number
                passed, refused = self._pass_on(identities, number)

    def _pass_on(self, identities: bytes, begin: int) -> tuple[int, int]:
        end = min(len(identities) // IDENTITY.size, begin + self._left)
        if end <= begin:
            return begin, 0
        passed, refused = self._pass_over(identities, begin, end)
        self._left -= passed - begin
        return passed, refused

    def _lines(self, part: ByteRange) -> Iterator[Line]:
        at, end = part
        while at < end and (chunk := os.pread(self._handle, min(CHUNK_BYTES, end - at), at)):
            at += len(chunk)
            yield from self._splitter.feed(chunk)
        if last := self._splitter.finish():
            yield last
