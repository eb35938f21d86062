"""Reports what the queues of a limiter wait for."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from processor.core.events import Bottleneck, BottleneckChanged, Listener

_Queue = TypeVar("_Queue")


class BottleneckReporter(Generic[_Queue]):
    """Emits what that queue waits for whose head has been blocked for longest."""

    def __init__(self, emit: Listener) -> None:
        self._emit = emit
        self.blocked: dict[_Queue, Bottleneck] = {}
        """What the heads of queues wait for, the longest-waiting first."""
        self._last: Bottleneck | None = None
        self._is_scheduled = False

    def schedule(self) -> None:
        """Emit at the end of this loop iteration, so that changes within it are reported once."""
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._report)

    def _report(self) -> None:
        self._is_scheduled = False
        bottleneck: Bottleneck = next(iter(self.blocked.values()), "input")
        if bottleneck != self._last:
            self._last = bottleneck
            self._emit(BottleneckChanged(at=asyncio.get_running_loop().time(), bottleneck=bottleneck))
