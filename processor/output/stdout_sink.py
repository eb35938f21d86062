"""Standard output in the journal's place: rows to a pipe, failures to stderr, no memory of earlier runs."""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Self

from processor.core.errors import OutputError
from processor.core.models import Result
from processor.output.job_index import JobIndex
from processor.output.row_json import encode
from processor.output.sink import RunInThread


class StdoutSink:
    """A ``Sink``. A pipe may be full for as long as its reader likes, so that writes are offloaded, one at a time."""

    def __init__(
        self,
        run_in_thread: RunInThread = asyncio.to_thread,
        *,
        out: int = 1,
        err: int = 2,
    ) -> None:
        self.job_index = JobIndex()
        self._offload = run_in_thread
        self._out = out
        self._err = err
        self._turn = asyncio.Lock()
        self._broken: str | None = None

    async def append(self, result: Result) -> None:
        """Raises OutputError, e.g. where the reader has gone."""
        raw = encode(result)
        await asyncio.shield(asyncio.ensure_future(self._write(self._err if result.failure else self._out, raw)))

    async def _write(self, fd: int, raw: bytes) -> None:
        async with self._turn:
            if self._broken is not None:
                raise OutputError(self._broken)
            try:
                await self._offload(lambda: _write_all(fd, raw))
            except OSError as error:
                self._broken = f"cannot write to standard output: {error.strerror}"
                raise OutputError(self._broken) from error

    def record_in_flight(self, custom_id: str, attempts: int) -> None:
        if self._broken is not None:
            raise OutputError(self._broken)

    def clear_in_flight(self, custom_id: str, attempts: int) -> None:
        pass

    async def close(self, lines_read: int | None = None) -> None:
        """Return when the write under way has ended."""
        async with self._turn:
            pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _write_all(fd: int, raw: bytes) -> None:
    rest = memoryview(raw)
    while rest:
        rest = rest[os.write(fd, rest) :]
