"""Tells each minute that an endpoint is still down, so that a log of the night shows when it was."""

from __future__ import annotations

import asyncio
from functools import partial

from processor.core.events import Listener, OutageContinues, OutageEnded, OutageStarted, RunEvent

PERIOD_S = 60.0


class OutageReminder:
    """A listener that emits OutageContinues while an endpoint is down. Close it at the end of the run."""

    event_types = (OutageStarted, OutageEnded)

    def __init__(self, emit: Listener) -> None:
        self._emit = emit
        self._timers: dict[str, asyncio.TimerHandle] = {}
        """By endpoint."""

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, OutageStarted):
            self._schedule(event.endpoint, event.at, event.at + PERIOD_S)
        elif isinstance(event, OutageEnded):
            self._cancel(event.endpoint)

    def close(self) -> None:
        for endpoint in list(self._timers):
            self._cancel(endpoint)

    def _schedule(self, endpoint: str, since: float, at: float) -> None:
        self._cancel(endpoint)
        self._timers[endpoint] = asyncio.get_running_loop().call_at(at, partial(self._remind, endpoint, since))

    def _remind(self, endpoint: str, since: float) -> None:
        now = asyncio.get_running_loop().time()
        self._schedule(endpoint, since, now + PERIOD_S)
        self._emit(OutageContinues(at=now, endpoint=endpoint, down_s=now - since))

    def _cancel(self, endpoint: str) -> None:
        if (timer := self._timers.pop(endpoint, None)) is not None:
            timer.cancel()
