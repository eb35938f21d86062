"""Ends processes that lead a group of their own. Apart from ``child_processes``, which is imported at every start."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from contextlib import suppress

from processor.core import platform


async def kill_group_of(process: Process) -> None:
    """Kills a process that leads a group of its own, and what it has started."""
    platform.kill_group(process.pid)
    with suppress(TimeoutError):  # something that has left the group may hold a pipe open
        async with asyncio.timeout(1.0):
            await process.wait()
