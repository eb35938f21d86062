"""The turn to send a probe: one request at a time tests whether an endpoint that is down is up again."""

from __future__ import annotations

import asyncio
from math import inf

from processor.health.outage_detector import OutageDetector


class ProbeTurn:
    """Of one endpoint. Whoever has taken the turn calls ``end`` after the request."""

    def __init__(self, outages: OutageDetector) -> None:
        self._outages = outages
        self._lock = asyncio.Lock()
        self._is_taken = False
        """By ``take``."""

    async def wait(self) -> bool:
        """Wait for the turn. False if the endpoint came up meanwhile: the request is then an ordinary one, and no turn
        has been taken."""
        while self._outages.is_down:
            await self._lock.acquire()
            if self._outages.is_down:
                await self._wait_until_due()
                return True
            self._lock.release()
        return False

    def free_at(self) -> float:
        """When the turn can be taken without waiting; inf while another request has it."""
        return inf if self._is_taken else self._outages.next_probe_at

    def take(self, now: float) -> None:
        """Take the turn, which must be free."""
        self._is_taken = True
        self._outages.on_probe(now)

    def end(self) -> None:
        if self._is_taken:
            self._is_taken = False
        else:
            self._lock.release()

    async def _wait_until_due(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(max(0.0, self._outages.next_probe_at - loop.time()))
        except asyncio.CancelledError:
            self._lock.release()
            raise
        self._outages.on_probe(loop.time())
