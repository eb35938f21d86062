"""One request goes ahead alone, so that a wrong key or address costs one; the others when it was not turned away.

Where it was, the next one goes alone, too: a wrong model costs as many as it takes to stop the run, and not all
that had been in flight by then.
"""

from __future__ import annotations

import asyncio

CANARY_TIMEOUT_S = 2.0
"""For so long a scout is waited for, at most."""


class Canary:
    def __init__(self) -> None:
        self._next = asyncio.Event()
        self._is_over = False

    async def wait(self) -> None:
        """To be asked right after a job was started. Returns when the next may be."""
        if self._is_over:
            return
        self._next.clear()
        patience = asyncio.get_running_loop().call_later(CANARY_TIMEOUT_S, self._free)
        try:
            await self._next.wait()
        finally:
            patience.cancel()

    def response(self, status: int) -> None:
        if not self._is_over and not 300 <= status < 500:
            self._free()

    def ended(self) -> None:
        """A job has come to its end, or waits until another has succeeded."""
        self._next.set()

    def _free(self) -> None:
        self._is_over = True
        self._next.set()
