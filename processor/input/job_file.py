"""Where the jobs come from: a file, or a pipe that must not block the loop. Always in chunks, never whole."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from processor.core.errors import ConfigError, InputError, InvalidJob, reason
from processor.input.done_job_skipper import DoneJobSkipper, SkipDone, SkippedJobs
from processor.input.fingerprints import raw_fingerprint
from processor.input.job_formats import JobDefaults, ParsedJob, parse_job
from processor.input.line_splitter import Line, LineSplitter, count_lines

CHUNK_BYTES = 64 * 1024
MAX_LINE_BYTES = 32 * 1024 * 1024
MIN_SKIP_BYTES = 64 << 20
STDIN = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidLine:
    """A line that is no job, as its failed row will say. ``fingerprint`` is that of the raw line."""

    line: int
    fingerprint: str
    code: str
    message: str
    custom_id: str | None = None


class JobFile:
    """A job file, opened. Raises ConfigError where it cannot be read. ``-`` is standard input.

    Iterating raises InputError where it cannot be read any further.
    """

    def __init__(self, path: str, defaults: JobDefaults, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self.path = path
        self._defaults = defaults
        self._max_line_bytes = max_line_bytes
        self._file = _open(path)
        self._kind = os.fstat(self._file.fileno()).st_mode

    def count(self) -> int | None:
        """How many lines hold something; None for a pipe, which can be read only once."""
        if not stat.S_ISREG(self._kind):
            return None
        try:
            self._file.seek(0)
            return count_lines(iter(partial(self._file.read, CHUNK_BYTES), b""))
        except OSError as error:
            raise ConfigError(_unreadable(self.path, error)) from None

    def close(self) -> None:
        self._file.close()

    async def __aiter__(self) -> AsyncGenerator[ParsedJob | InvalidLine, None]:
        splitter = LineSplitter(self._max_line_bytes)
        async for chunk in self._chunks():
            for line in splitter.feed(chunk):
                yield self._read(line)
        if last := splitter.finish():
            yield self._read(last)

    async def unfinished(
        self, skip_done: SkipDone, limit: int | None = None
    ) -> AsyncGenerator[ParsedJob | InvalidLine | SkippedJobs, None]:
        """The same, but in a large file jobs that are done are only counted, in its first ``limit`` lines.

        Each thing found is to be dealt with before the next is asked for.
        """
        if not stat.S_ISREG(self._kind) or os.fstat(self._file.fileno()).st_size < MIN_SKIP_BYTES:
            async with aclosing(aiter(self)) as every:
                async for found in every:
                    yield found
            return
        passing = DoneJobSkipper(
            self._file.fileno(),
            self._defaults,
            self._max_line_bytes,
            read=self._read,
            skip_done=skip_done,
            limit=limit,
        )
        with self._reading(), closing(iter(passing)) as lines:
            for line in lines:
                yield line

    def _read(self, line: Line) -> ParsedJob | InvalidLine:
        if line.data is None:
            size = f"{line.size / 2**20:.0f} MiB, over the {self._max_line_bytes / 2**20:.0f} MiB that a line may have"
            return InvalidLine(line=line.number, fingerprint=line.digest, code="line_too_long", message=size)
        try:
            return parse_job(line.data, line.number, self._defaults)
        except InvalidJob as error:
            return InvalidLine(
                line=line.number,
                fingerprint=raw_fingerprint(line.data),
                code=error.code,
                message=str(error),
                custom_id=error.custom_id,
            )

    async def _chunks(self) -> AsyncIterator[bytes]:
        if stat.S_ISFIFO(self._kind) or stat.S_ISSOCK(self._kind) or self._file.isatty():
            with self._reading():
                async for chunk in _pipe(self._file):
                    yield chunk
            return
        with self._reading():
            if stat.S_ISREG(self._kind):
                self._file.seek(0)
            while chunk := self._file.read(CHUNK_BYTES):
                yield chunk

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(_unreadable(self.path, error)) from None


def _open(path: str) -> BinaryIO:
    try:
        if path == "-":
            return open(STDIN, "rb", buffering=0, closefd=False)
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise ConfigError(_unreadable(path, error)) from None


def _unreadable(path: str, error: OSError) -> str:
    return f"cannot read {'stdin' if path == '-' else path}: {reason(error)}"


async def _pipe(file: BinaryIO) -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            yield chunk
    finally:
        transport.close()
