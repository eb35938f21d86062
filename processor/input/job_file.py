"""Reads jobs from a file, which may be compressed or a table, or from a pipe, in chunks.

Waiting for a pipe does not block the event loop.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, cast

from processor.core import platform
from processor.core.compression import Reader
from processor.core.errors import ConfigError, InputError, InvalidJob
from processor.core.fast_dataclass import dataclass
from processor.core.models import SourceFile, position_of
from processor.input.done_job_skipper import DoneJobSkipper, SkipDone, SkippedJobs
from processor.input.fingerprints import raw_fingerprint
from processor.input.found_fields import NOTHING_FOUND, FoundFields, found_fields
from processor.input.job_formats import JobDefaults, ParsedJob, parse_job
from processor.input.line_splitter import (
    CHUNK_BYTES,
    LINES_PER_TURN,
    Line,
    LineSplitter,
    count_nonblank_lines,
    raise_if_cut,
)
from processor.input.other_formats import HEAD_BYTES, other_format
from processor.input.pipes import read_checked_pipe
from processor.input.readers import open_input, reader_of, unreadable
from processor.input.tables import TOO_MANY_VALUES, TableReader
from processor.input.template import Template
from processor.remote.addresses import scheme_of, shown_address

if TYPE_CHECKING:
    from processor.remote.remote_file import RemoteFile

MAX_LINE_BYTES = 32 * 1024 * 1024
MIN_SKIP_BYTES = 64 << 20
"""Done jobs are skipped without parsing only in files from this size on."""
MAX_COUNTED_BYTES = 1 << 30
"""The lines of a compressed file are counted before the first request only where they are not more than this."""
MAX_COUNTED_COMPRESSED_BYTES = 128 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidLine:
    """A line that is not a job, with what its failed row says. ``fingerprint`` is that of the raw line."""

    line: int
    fingerprint: str
    code: str
    message: str
    found: FoundFields = NOTHING_FOUND
    """What else of the line goes into its failed row."""
    source: SourceFile | None = None
    """Its file; None where the run has only one."""

    @property
    def position(self) -> int:
        return position_of(self.line, self.source)


class JobFile:
    """An open job file; ``-`` is standard input. Close it after use.

    Iterating yields each line that is not blank, as a job or as an invalid line, in lists of up to LINES_PER_TURN, and
    lets other tasks run between two of them. It raises InputError where the file cannot be read further.
    """

    def __init__(
        self,
        path: str,
        defaults: JobDefaults,
        *,
        max_line_bytes: int = MAX_LINE_BYTES,
        template: Template | None = None,
    ) -> None:
        """Open the file. ``template`` makes the jobs of a table. Raises ConfigError where the file cannot be read, or
        is of another format."""
        self.path = path
        self._name = "stdin" if path == "-" else shown_address(path)
        self.defaults = defaults
        self.max_line_bytes = max_line_bytes
        self.is_remote = scheme_of(path) is not None
        self._file = open_input(path)
        self._file_mode = 0 if self.is_remote else os.fstat(self._file.fileno()).st_mode
        self._reader: Reader | None = None
        """What makes lines of a file that is compressed or a table; None where it holds them as they are."""
        if self.size is not None:
            try:
                self._reader = self._checked_reader(template)
            except ConfigError:
                self._file.close()
                raise
        self.parse: Callable[[Line], ParsedJob | InvalidLine] = (
            self._parse_row
            if isinstance(self._reader, TableReader)
            else partial(parse_line, defaults=defaults, max_line_bytes=max_line_bytes)
        )

    def _checked_reader(self, template: Template | None) -> Reader | None:
        try:
            head = self._head()
        except OSError as error:
            if self.is_remote:
                raise ConfigError(unreadable(self._name, error)) from None
            return None  # reading the lines reports it
        try:
            reader = reader_of(self._file, head, self._name, template, self.max_line_bytes)
            if reader is not None and not isinstance(reader, TableReader):
                head = reader.read(HEAD_BYTES)
        except OSError as error:
            raise ConfigError(unreadable(self._name, error)) from None
        if not isinstance(reader, TableReader) and (message := other_format(head, self._name)):
            raise ConfigError(message)
        return reader

    def _head(self) -> bytes:
        return self._read(HEAD_BYTES) if self.is_remote else platform.read_at(self._file.fileno(), HEAD_BYTES, 0)

    def _rewind(self) -> None:
        if self._reader is None:
            self._file.seek(0)
        else:
            self._reader.rewind()

    def _read(self, size: int = CHUNK_BYTES) -> bytes:
        return (self._reader or self._file).read(size)

    def count_lines(self) -> int | None:
        """Return how many lines are not blank; None for a pipe, which can be read only once, for a remote file, and for
        a compressed file or a table of which that would take long. Raises ConfigError."""
        size = self.size
        if size is None or self.is_remote or (self.is_converted and size > MAX_COUNTED_COMPRESSED_BYTES):
            return None
        chunks: Iterator[bytes] = iter(self._read, b"")
        if self.is_converted:
            chunks = islice(chunks, MAX_COUNTED_BYTES // CHUNK_BYTES)
        try:
            self._rewind()
            if isinstance(self._reader, TableReader):
                return self._reader.count_rows()
            lines = count_nonblank_lines(chunks)
            return None if self.is_converted and self._read() else lines
        except OSError as error:
            raise ConfigError(unreadable(self._name, error)) from None

    @property
    def size(self) -> int | None:
        """Its size in bytes, as it stands on disk; None for a pipe."""
        if self.is_remote:
            return cast("RemoteFile", self._file).size
        return os.fstat(self._file.fileno()).st_size if stat.S_ISREG(self._file_mode) else None

    def parse_lines(self) -> Iterator[ParsedJob | InvalidLine]:
        """Yield each line of a regular file that is not blank. Blocks while it reads. Raises ConfigError."""
        splitter = LineSplitter(self.max_line_bytes)
        try:
            self._rewind()
            while chunk := self._read():
                yield from map(self.parse, splitter.feed(chunk))
        except OSError as error:
            raise ConfigError(unreadable(self._name, error)) from None
        if last := splitter.finish():
            yield self.parse(last)

    def close(self) -> None:
        self._file.close()

    async def __aiter__(self) -> AsyncGenerator[list[ParsedJob | InvalidLine], None]:
        splitter = LineSplitter(self.max_line_bytes)
        async for chunk in self._chunks():
            lines = splitter.feed(chunk)
            for begin in range(0, len(lines), LINES_PER_TURN):
                yield list(map(self.parse, lines[begin : begin + LINES_PER_TURN]))
                await asyncio.sleep(0)
        if last := splitter.finish():
            yield [self.parse(last)]

    async def unfinished(
        self, skip_done: SkipDone, limit: int | None = None
    ) -> AsyncGenerator[Sequence[ParsedJob | InvalidLine | SkippedJobs], None]:
        """Iterate as ``aiter(self)``, but skip done jobs in a large file, among its first ``limit`` lines.

        Handle each list before you ask for the next. ``skip_done`` is usually ``JobIndex.skip_done``.
        """
        if self.is_converted or self.size is None or self.size < MIN_SKIP_BYTES:
            async with aclosing(aiter(self)) as items:
                async for item in items:
                    yield item
            return
        skipper = DoneJobSkipper(
            self._file.fileno(),
            self.defaults,
            self.max_line_bytes,
            parse_line=self.parse,
            skip_done=skip_done,
            limit=limit,
        )
        with self._as_input_error(), closing(iter(skipper)) as skipper_items:
            for number, found in enumerate(skipper_items):
                yield [found]
                if number % LINES_PER_TURN == 0 or isinstance(found, SkippedJobs):
                    await asyncio.sleep(0)

    def _parse_row(self, line: Line) -> ParsedJob | InvalidLine:
        """Parse a line that was made of the row of a table."""
        found = parse_line(line, self.defaults, self.max_line_bytes)
        if isinstance(found, InvalidLine) and found.code == "not_an_object":
            return replace(found, message=TOO_MANY_VALUES)
        return found

    @property
    def is_converted(self) -> bool:
        """Whether it can be read only in its order: it is compressed, a table or remote."""
        return self._reader is not None or self.is_remote

    @property
    def file_descriptor(self) -> int:
        return self._file.fileno()

    @property
    def position(self) -> int:
        """How many bytes of the file have been read."""
        return self._file.tell()

    def chunks(self) -> Iterator[bytes]:
        """Yield the lines of a file that is converted, in pieces. Raises OSError."""
        self._rewind()
        yield from iter(self._read, b"")

    def _is_pipe(self) -> bool:
        return stat.S_ISFIFO(self._file_mode) or stat.S_ISSOCK(self._file_mode) or self._file.isatty()

    async def _chunks(self) -> AsyncIterator[bytes]:
        if not self.is_remote and self._is_pipe():
            with self._as_input_error():
                async for chunk in read_checked_pipe(self._file, self._raise_if_other_format):
                    yield chunk
            return
        with self._as_input_error():
            if (size := self.size) is not None:
                self._rewind()
            while chunk := (await asyncio.to_thread(self._read) if self.is_remote else self._read()):
                yield chunk
            if size is not None and not self.is_converted:
                raise_if_cut(self._file.tell(), size)

    def _raise_if_other_format(self, head: bytes) -> None:
        if message := other_format(head[:HEAD_BYTES], self._name):
            raise InputError(message)

    @contextmanager
    def _as_input_error(self) -> Iterator[None]:
        """Raise an OSError of the body as an InputError."""
        try:
            yield
        except OSError as error:
            raise InputError(unreadable(self._name, error)) from None


def parse_line(line: Line, defaults: JobDefaults, max_line_bytes: int) -> ParsedJob | InvalidLine:
    """Return the job of a line, or why it is none."""
    if line.data is None:
        size, limit = line.size / 2**20, max_line_bytes / 2**20
        message = f"{size:.0f} MiB, over the {limit:.0f} MiB that a line may have"
        return InvalidLine(
            line=line.number,
            fingerprint=line.digest,
            code="line_too_long",
            message=message,
            found=found_fields(line.head),
            source=defaults.source,
        )
    try:
        return parse_job(line.data, line.number, defaults)
    except InvalidJob as error:
        return InvalidLine(
            line=line.number,
            fingerprint=raw_fingerprint(line.data),
            code=error.code,
            message=str(error),
            found=found_fields(line.data),
            source=defaults.source,
        )
