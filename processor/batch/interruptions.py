"""Waits that a stop, or the time to stream what is left, ends early."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from processor.core import exit_codes
from processor.core.errors import (
    AccessDenied,
    AddressError,
    BadRequest,
    ConnectError,
    ProtocolError,
    Redirected,
    RequestError,
    StatusError,
)
from processor.core.events import Listener, Notice
from processor.core.text import never_reached, setting_name
from processor.scheduler import Outcome

T = TypeVar("T")

_FIRST_WAIT_S = 1.0
_MAX_WAIT_S = 60.0


class RunEnded(Exception):
    """The run ends now, before its ordinary end."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class StreamTime(Exception):
    """It is time to stream what is left."""


class Interruptions:
    """Knows why the run should end early, and waits no longer than that."""

    def __init__(
        self,
        wall_clock: Callable[[], float],
        emit: Listener,
        *,
        stream_at: float | None,
        end_at: float | None = None,
        max_outage_s: float,
    ) -> None:
        """``stream_at``, ``end_at``: Unix seconds; None: never."""
        self._wall_clock = wall_clock
        self._emit = emit
        self._stream_at = stream_at
        self._end_at = end_at
        self._max_outage_s = max_outage_s
        self._stopped = asyncio.Event()
        self._outcome: Outcome | None = None
        self._is_reachable = False
        """Whether a connection has been made in this run."""

    @property
    def is_stopping(self) -> bool:
        return self._outcome is not None

    def stop(self, outcome: Outcome) -> None:
        """End the run at the next step. The first reason counts."""
        self._outcome = self._outcome or outcome
        self._stopped.set()

    def stream_no_more(self) -> None:
        """The time to stream what is left has come, and is being acted upon."""
        self._stream_at = None

    def check(self) -> None:
        """Raises RunEnded and StreamTime."""
        if self._outcome is not None:
            raise RunEnded(self._outcome)
        if self._end_at is not None and self._wall_clock() >= self._end_at:
            raise RunEnded(
                Outcome(exit_code=exit_codes.STOPPED, reason=f"the time of {setting_name('until')} has come")
            )
        if self._stream_at is not None and self._wall_clock() >= self._stream_at:
            raise StreamTime

    async def wait(self, delay_s: float) -> None:
        """Wait for so long. Raises RunEnded and StreamTime."""
        self.check()
        for moment in (self._stream_at, self._end_at):
            if moment is not None:
                delay_s = min(delay_s, max(moment - self._wall_clock(), 0.0) + 0.001)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), delay_s)
        self.check()

    async def repeat(self, make: Callable[[], Awaitable[T]], what: str) -> T:
        """Make a call that may be made twice, until it succeeds.

        Raises the RequestErrors that another attempt would meet again, and RunEnded after ``max_outage_s`` of failures,
        or where the first connection of the run fails: its address is then perhaps wrong.
        """
        began_at, wait_s = self._now(), _FIRST_WAIT_S
        while True:
            self.check()
            try:
                made = await make()
                self._is_reachable = True
                return made
            except RequestError as error:
                if is_final(error):
                    raise
                await self.wait_after(error, what, began_at, wait_s)
                wait_s = min(2 * wait_s, _MAX_WAIT_S)

    async def wait_after(self, error: RequestError, what: str, began_at: float, wait_s: float) -> None:
        """Wait before a call that failed is made again. Raises RunEnded where it has failed for too long, or
        no call of this run has reached the server."""
        reason = f"cannot {what}: {error}"
        if isinstance(error, ConnectError) and not self._is_reachable:
            raise RunEnded(Outcome(exit_code=exit_codes.STOPPED, reason=never_reached(reason)))
        self._is_reachable = True
        if self._now() - began_at > self._max_outage_s:
            raise RunEnded(Outcome(exit_code=exit_codes.STOPPED, reason=reason))
        if wait_s == _FIRST_WAIT_S:
            self._emit(Notice(at=self._now(), text=f"cannot {what}, and tries it again: {error}"))
        asked = error.retry_after_s if isinstance(error, StatusError) else None
        await self.wait(max(wait_s, asked or 0.0))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def is_final(error: RequestError) -> bool:
    """Whether another attempt would meet the same error."""
    return isinstance(error, AccessDenied | AddressError | BadRequest | ProtocolError | Redirected)
