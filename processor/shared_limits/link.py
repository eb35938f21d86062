"""The calls between a session and the limiter that it shares. A binding makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from processor.core.errors import ProcessorError

T = TypeVar("T")

SILENCE_S = 60.0
"""A call that is not answered for so long will not be."""


class LimiterLost(ProcessorError):
    """The process of the shared limiter cannot be reached: a call may not have run."""


class LimiterLink(Protocol):
    """The shared limiter, as one session calls it. Each call runs at most once, and raises LimiterLost where it may not
    have run. The calls of one kind are made one after the other. What they pass is described at ``LimiterHost``."""

    async def describe(self) -> bytes: ...

    async def open(self, opening: bytes) -> bytes: ...

    async def push(self, session: str, group: bytes) -> None: ...

    async def pull(self, session: str) -> bytes: ...

    async def leave(self, session: str) -> None: ...


ConnectLimiter = Callable[[], Awaitable[LimiterLink]]
"""Finds the shared limiter, or starts it. Raises LimiterLost where that is not possible."""


async def answer_of(call: Awaitable[T]) -> T:
    """Wait for the answer to a call. Raises LimiterLost where none comes."""
    try:
        async with asyncio.timeout(SILENCE_S):
            return await call
    except TimeoutError:
        raise LimiterLost(f"it has not answered for {SILENCE_S:.0f} s") from None
