"""Starts processes that lead a group of their own. Apart from ``child_processes``, which is imported at every start."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from processor.core import platform
from processor.core.child_processes import not_outliving


@asynccontextmanager
async def child_process(
    command: Sequence[str], *, timeout_s: float, stdin: int = DEVNULL, stdout: int = DEVNULL
) -> AsyncIterator[Process]:
    """Start a process without a shell and without a terminal. The body waits for its end, for ``timeout_s`` at most.

    The process and what it has started are killed where the body is left early: by an exception, a cancellation or the
    time limit. They do not outlive this program either. Raises OSError or ValueError where the process cannot be
    started, and TimeoutError.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=stdin, stdout=stdout, stderr=DEVNULL, start_new_session=True
    )
    has_ended = False
    try:
        with not_outliving(process.pid):
            async with asyncio.timeout(timeout_s):
                yield process
        has_ended = True
    finally:
        if not has_ended:
            await _kill_group_of(process)


async def _kill_group_of(process: Process) -> None:
    platform.kill_group(process.pid)
    with suppress(TimeoutError):  # something that has left the group may hold a pipe open
        async with asyncio.timeout(1.0):
            await process.wait()
