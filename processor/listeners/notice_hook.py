"""Starts a command of the user's for what a person should know while the run works: ``[hooks] notice``."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from processor.core.errors import reason
from processor.core.events import Listener, Notice, OutageEnded, OutageStarted, RunEvent, RunFinished, Stopping
from processor.core.process_groups import child_process
from processor.core.secrets import mask_values
from processor.listeners.json_log import event_fields

MIN_INTERVAL_S = 60.0
"""Between two events of the kinds that may be left out: of those that come meanwhile the newest one is delivered."""
TIMEOUT_S = 20.0

Entry = dict[str, Any]


class NoticeHook:
    """A listener that gives each of its events as a JSON object to the command, one at a time.

    ``stopping`` and ``done`` are always delivered. The command gets no terminal, leads a process group of its own and
    is killed after TIMEOUT_S. Whatever it does, the run goes on: the first failure is said in a Notice.
    """

    event_types = (Notice, OutageStarted, OutageEnded, Stopping, RunFinished)

    def __init__(
        self,
        args: tuple[str, ...],
        emit: Listener,
        context: Callable[[], Entry],
        unix_time: Callable[[], float],
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """``context`` returns what every event carries: the files, and how many jobs are done."""
        self._args = args
        self._emit = emit
        self._context = context
        self._unix_time = unix_time
        self._timeout_s = timeout_s
        self._certain: deque[Entry] = deque()
        """What is delivered in any case."""
        self._newest: Entry | None = None
        self._next_at = 0.0
        self._has_failed = False
        self._is_closing = False
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, Notice) and self._has_failed and event.text.startswith(self._failure()):
            return
        time = datetime.fromtimestamp(self._unix_time(), UTC).isoformat(timespec="milliseconds")
        entry = {"time": time, **event_fields(event), **self._context()}
        mask_values(entry)
        if isinstance(event, RunFinished):
            entry["event"] = "done"
        if isinstance(event, Stopping | RunFinished):
            self._certain.append(entry)
        else:
            self._newest = entry
        self._changed.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._deliver())

    async def close(self) -> None:
        """Wait until what must be delivered is delivered, within the time limit for each."""
        self._is_closing = True
        self._changed.set()
        if self._task is not None:
            try:
                await self._task
            finally:
                self._task.cancel()

    async def _deliver(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            if self._certain:
                await self._run(self._certain.popleft())
            elif self._is_closing:
                return
            elif self._newest is not None and loop.time() >= self._next_at:
                entry, self._newest = self._newest, None
                self._next_at = loop.time() + MIN_INTERVAL_S
                await self._run(entry)
            else:
                wait_s = None if self._newest is None else self._next_at - loop.time()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()

    async def _run(self, entry: Entry) -> None:
        try:
            async with child_process(self._args, timeout_s=self._timeout_s, stdin=PIPE) as process:
                await process.communicate(json.dumps(entry).encode() + b"\n")
        except TimeoutError:  # an OSError, too
            self._fail(f"did not end within {self._timeout_s:g} s")
        except (OSError, ValueError) as error:
            self._fail(f"cannot be started: {reason(error) if isinstance(error, OSError) else error}")
        else:
            if process.returncode:
                self._fail(f"failed with exit code {process.returncode}")

    def _failure(self) -> str:
        # The program alone: its arguments may hold secrets.
        return f"the hook {PurePath(self._args[0]).name} "

    def _fail(self, text: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._emit(Notice(at=asyncio.get_running_loop().time(), text=self._failure() + text))
