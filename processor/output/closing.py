"""Closes an output once, however often it is asked to, and also where the caller is cancelled."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Self

from processor.core.errors import ConfigError, OutputError


class ClosedOnce(ABC):
    """The part of a ``Sink`` that closes it. A subclass defines ``_close``."""

    _closing: asyncio.Task[None] | None = None

    async def close(self, lines_read: int | None = None, *, nothing_sent: bool = False) -> None:
        """See ``Sink``. Raises OutputError also for what failed since the last ``append``.

        Cancelling the caller does not stop it.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(lines_read, nothing_sent))
        await asyncio.shield(self._closing)

    @abstractmethod
    async def _close(self, lines_read: int | None, nothing_sent: bool) -> None:
        """Do what ``close`` describes. Called once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OutputError) if error is not None or self._closing is not None else nullcontext():
            await self.close(nothing_sent=isinstance(error, ConfigError))
