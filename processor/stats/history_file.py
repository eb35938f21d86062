"""Writes the history of a run, a line a minute, and reads the history of earlier runs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from processor.core import exit_codes
from processor.core.events import RunEvent, RunFinished, RunStarted
from processor.core.json_reading import fields_of, parsed
from processor.core.models import JSON
from processor.core.private_files import private_opener
from processor.core.secrets import mask_values
from processor.stats.history import MinuteCounter, RunDescription
from processor.stats.run_stats import RunStats

PERIOD_S = 60.0
HEADER_AFTER_S = 1.0
"""The first line is written so long after the start: it must not delay the first request."""


class HistoryFile:
    """A listener that appends a line when the run starts, each minute, and when it ends. Close it at the end.

    A run that sends nothing leaves no line. Errors of the file are ignored: a full disk under the history does not stop
    the run. ``stats`` must hear each event before this does.
    """

    event_types = (*MinuteCounter.event_types, RunStarted, RunFinished)

    def __init__(
        self, path: Path, stats: RunStats, describe: Callable[[], RunDescription], unix_time: Callable[[], float]
    ) -> None:
        self._path = path
        self._stats = stats
        self._describe = describe
        self._unix_time = unix_time
        self._counter: MinuteCounter | None = None
        self._description: RunDescription | None = None
        """None until it is written."""
        self._file: BinaryIO | None = None
        self._size_before = 0
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            self._start(event)
        elif isinstance(event, RunFinished):
            self._finish(event)
        elif self._counter is not None:
            self._counter(event)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _start(self, event: RunStarted) -> None:
        self._counter = MinuteCounter(self._stats, event.at)
        self._timer = asyncio.get_running_loop().call_at(event.at + HEADER_AFTER_S, self._begin, event.at + PERIOD_S)

    def _begin(self, first_minute_at: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(first_minute_at, self._write_minute)
        if self._has_sent:
            self._write_header()

    def _write_minute(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(loop.time() + PERIOD_S, self._write_minute)
        self._write_line(loop.time())

    @property
    def _has_sent(self) -> bool:
        return bool(self._stats.attempts or self._stats.failures_by_code)

    def _finish(self, event: RunFinished) -> None:
        if event.exit_code == exit_codes.NOTHING_SENT:
            self._take_back()
        elif self._description is not None or self._has_sent:
            self._write_line(event.at, exit_code=event.exit_code)
        self.close()

    def _write_line(self, at: float, *, exit_code: int | None = None) -> None:
        """``exit_code``: that of the run, where this is its last line."""
        run = self._write_header()
        if self._counter is not None:
            ending = {} if exit_code is None else {"exit_code": exit_code}
            self._append({**self._counter.next_line(run, at, _iso(self._unix_time())), **ending})

    def _write_header(self) -> str:
        """Write the first line of the run, unless that is done. Returns the name of the run."""
        if self._description is not None:
            return self._description.run
        self._description = self._describe()
        with suppress(OSError):
            self._file = open(self._path, "a+b", buffering=0, opener=private_opener)  # noqa: SIM115
            self._size_before = self._file.seek(0, os.SEEK_END)
            if self._size_before:  # the line of a run that was killed may be torn
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":
                    self._file.write(b"\n")
        self._append(self._description.as_json())
        return self._description.run

    def _append(self, line: JSON) -> None:
        if self._file is None:
            return
        mask_values(line)
        with suppress(OSError):
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _take_back(self) -> None:
        """Remove the lines of a run that has sent nothing."""
        if self._file is None:
            return
        with suppress(OSError):
            self._file.truncate(self._size_before)
            if not self._size_before:
                self._path.unlink()


def _iso(unix_time: float) -> str:
    return datetime.fromtimestamp(unix_time, UTC).isoformat(timespec="seconds")


def read_history(path: Path) -> Iterator[JSON]:
    """Yield the lines, oldest first: of each run its first line, which has ``started_at``, then its minutes.

    A torn line, and one that is no history, is left out. Raises OSError.
    """
    with open(path, "rb") as file:
        for raw in file:
            line = fields_of(parsed(raw))
            if isinstance(line.get("run"), str):
                yield line
