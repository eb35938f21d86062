"""Writes results to standard output: replies to stdout, failures to stderr, without memory of earlier runs."""

from __future__ import annotations

import asyncio
import os
from functools import partial

from processor.core.errors import OutputError, reason
from processor.core.models import Result, RunInThread
from processor.output.row_json import encode_row
from processor.output.sink import UnrecordedSink
from processor.output.storage import write_all


class StdoutSink(UnrecordedSink):
    """A ``Sink``. Writes run in a thread, one at a time: a slow reader keeps the pipe full, and a write then blocks."""

    def __init__(
        self,
        run_in_thread: RunInThread = asyncio.to_thread,
        *,
        stdout_fd: int = 1,
        stderr_fd: int = 2,
    ) -> None:
        super().__init__()
        self._run_in_thread = run_in_thread
        self._stdout_fd = stdout_fd
        self._stderr_fd = stderr_fd
        self._write_lock = asyncio.Lock()
        self._error_message: str | None = None

    async def append(self, result: Result) -> None:
        """See ``Sink``. Raises OutputError, e.g. where the reader has closed the pipe."""
        fd = self._stderr_fd if result.failure else self._stdout_fd
        await asyncio.shield(asyncio.ensure_future(self._write(fd, encode_row(result))))

    async def _write(self, fd: int, raw: bytes) -> None:
        async with self._write_lock:
            self._raise_if_failed()
            try:
                await self._run_in_thread(lambda: write_all(partial(os.write, fd), raw))
            except OSError as error:
                self._error_message = f"cannot write to standard output: {reason(error)}"
                raise OutputError(self._error_message) from error

    def _raise_if_failed(self) -> None:
        if self._error_message is not None:
            raise OutputError(self._error_message)

    def record_in_flight(self, custom_id: str, attempts: int, worst_pico: int | None = None) -> None:
        """Raise OutputError if a write has failed; nothing is recorded."""
        self._raise_if_failed()

    async def close(self, lines_read: int | None = None, *, nothing_sent: bool = False) -> None:
        """Return when the write in progress has ended."""
        async with self._write_lock:
            pass
