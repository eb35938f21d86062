"""Reads the jobs of files by their size: the shortest or the longest first.

A first pass over the files keeps 16 bytes of each line: where it begins, and its place in the order. The second reads
the lines there. Lines that are no jobs come first, and those whose id an earlier line of the file has come last, so
that both are judged as in the order of the file.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from heapq import merge

from processor.core import platform
from processor.core.errors import InputError, reason
from processor.core.models import Job
from processor.input.job_file import InvalidLine, JobFile
from processor.input.job_formats import ParsedJob
from processor.input.line_splitter import CHUNK_BYTES, LINES_PER_TURN, Line, LineSplitter
from processor.output.job_index import JobIndex, JobStatus
from processor.protocols import protocol_for
from processor.ratelimit.token_cost import DEFAULT_OUTPUT_TOKENS
from processor.scheduler.dependencies import RunOptions
from processor.scheduler.selection import classify
from processor.tokens.counter import TokenCounter

_LINE_BITS = 40
_MAX_SIZE = (1 << 64 - _LINE_BITS) - 3
_INVALID, _DUPLICATE = 0, _MAX_SIZE + 2
"""Ranks before and behind those of all jobs, which are their sizes in tokens and 1."""
_SORTED_AT_A_TIME = 1 << 16
"""Keys that are boxed as objects at a time, since each takes 40 bytes then."""


@dataclass(slots=True)
class _Lines:
    """What is kept of the lines of all files."""

    begins: array[int] = field(default_factory=lambda: array("Q"))
    """Where each line begins in its file."""
    keys: array[int] = field(default_factory=lambda: array("Q"))
    """Of each line that is not blank: its rank, and its number among all lines."""
    first_of_file: list[int] = field(default_factory=list)


class OrderedJobs:
    """Yields each line of the files that is not blank, as iterating over them does, by the size of the jobs.

    A prompt's tokens are estimated by its characters. Raises InputError where a file cannot be read.
    """

    def __init__(
        self,
        files: Sequence[JobFile],
        index: JobIndex,
        options: RunOptions,
        counter: TokenCounter,
        *,
        longest_first: bool,
    ) -> None:
        """``files``: regular ones that hold lines as they are. ``counter``: without encodings."""
        self._files = files
        self._longest_first = longest_first
        self._index = index
        self._options = options
        self._counter = counter

    async def __aiter__(self) -> AsyncGenerator[list[ParsedJob | InvalidLine], None]:
        lines = _Lines()
        left = self._options.limit
        for file in self._files:
            lines.first_of_file.append(len(lines.begins))
            before = len(lines.keys)
            with closing(self._read(file, lines, left)) as chunks:
                for _ in chunks:
                    await asyncio.sleep(0)  # a large file must not delay a Ctrl-C
            if left is not None:
                left -= len(lines.keys) - before
        self._index.forget_seen()
        for place, key in enumerate(_sorted(lines.keys)):
            number = key & ((1 << _LINE_BITS) - 1)
            at = bisect_right(lines.first_of_file, number) - 1
            line = number - lines.first_of_file[at]
            is_last = number + 1 == len(lines.begins) or number + 1 in lines.first_of_file
            end = None if is_last else lines.begins[number + 1]
            yield [self._line(self._files[at], line, lines.begins[number], end)]
            if place % LINES_PER_TURN == 0:
                await asyncio.sleep(0)

    def _read(self, file: JobFile, lines: _Lines, left: int | None) -> Generator[None, None, None]:
        """Read a file for the first time, at most ``left`` lines. Yields after each chunk."""
        splitter = LineSplitter(file.max_line_bytes)
        first, at = len(lines.begins), 0
        lines.begins.append(0)
        while left is None or left > 0:
            chunk = _read_at(file, CHUNK_BYTES, at)
            end = -1
            while (end := chunk.find(b"\n", end + 1)) >= 0:
                lines.begins.append(at + end + 1)
            found = splitter.feed(chunk) if chunk else [line for line in [splitter.finish()] if line]
            for line in found[:left]:
                lines.keys.append(self._rank(file, line) << _LINE_BITS | (first + line.number - 1))
            if left is not None:
                left -= len(found[:left])
            if not chunk:
                return
            at += len(chunk)
            yield

    def _rank(self, file: JobFile, line: Line) -> int:
        parsed = file.parse(line)
        if isinstance(parsed, InvalidLine):
            return _INVALID
        custom_id, status = classify(parsed, self._index, self._options)
        if status is JobStatus.DUPLICATE:
            return _DUPLICATE
        tokens = min(size_in_order(parsed.with_id(custom_id), self._counter), _MAX_SIZE)
        return 1 + (_MAX_SIZE - tokens if self._longest_first else tokens)

    def _line(self, file: JobFile, number: int, begin: int, end: int | None) -> ParsedJob | InvalidLine:
        """Parse the line that begins and ends there; ``number`` counts from 0."""
        splitter = LineSplitter(file.max_line_bytes)
        splitter.skip(number)
        found: list[Line] = []
        while not found and (end is None or begin < end):
            chunk = _read_at(file, CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - begin), begin)
            found = splitter.feed(chunk) if chunk else [line for line in [splitter.finish()] if line]
            begin += len(chunk)
            if not chunk and not found:
                break
        if not found:
            raise InputError(f"{file.path} has changed while it is read, at line {number + 1}")
        return file.parse(found[0])


def size_in_order(job: Job, counter: TokenCounter) -> int:
    """The tokens by which a job has its place: its prompt and the most of its reply. ``counter``: without encodings."""
    size = protocol_for(job.path).request_size(job, counter.for_model(job.model))
    output = DEFAULT_OUTPUT_TOKENS if size.max_tokens is None else size.max_tokens
    return size.prompt_tokens + output * size.choices


def _sorted(keys: array[int]) -> Iterator[int]:
    """Yield the keys in their order. Sorts them in place, a part at a time."""
    for begin in range(0, len(keys), _SORTED_AT_A_TIME):
        keys[begin : begin + _SORTED_AT_A_TIME] = array("Q", sorted(keys[begin : begin + _SORTED_AT_A_TIME]))
    return merge(*(_part(keys, begin) for begin in range(0, len(keys), _SORTED_AT_A_TIME)))


def _part(keys: array[int], begin: int) -> Iterator[int]:
    return (keys[at] for at in range(begin, min(begin + _SORTED_AT_A_TIME, len(keys))))


def _read_at(file: JobFile, size: int, at: int) -> bytes:
    try:
        return platform.read_at(file.file_descriptor, size, at)
    except OSError as error:
        raise InputError(f"cannot read {file.path}: {reason(error)}") from None
