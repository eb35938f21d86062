"""The calls between the driver and one worker. A binding makes them, and knows nothing of what they carry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol


class WorkerLink(Protocol):
    """One worker, as the driver calls it. Each call runs at most once, and raises WorkerLost where it may not have run.

    The calls of one kind are made one after the other. What they pass is described at ``WorkerHost``.
    """

    async def describe(self) -> bytes: ...

    async def open(self, settings: bytes) -> None: ...

    async def set_targets(self, targets: bytes) -> bytes: ...

    async def push(self, group: bytes) -> None: ...

    async def pull(self) -> bytes: ...

    async def close(self) -> None:
        """End the worker, however it is. Raises nothing."""


StartWorker = Callable[[str], Awaitable[WorkerLink]]
"""Starts the worker of this name. Raises WorkerLost where that is not possible."""
