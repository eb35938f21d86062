"""What all requests of one transport share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from processor.http.read_batching import ReadBatching
from processor.http.settings import TransportSettings
from processor.http.timeouts import DeadlineTimer


class TransportContext:
    """Settings, clocks and timers. ``wall_clock`` returns Unix seconds."""

    __slots__ = ("batching", "deadline_timer", "loop", "settings", "wall_clock")

    def __init__(self, settings: TransportSettings, wall_clock: Callable[[], float]) -> None:
        self.settings = settings
        self.wall_clock = wall_clock
        self.loop = asyncio.get_running_loop()
        self.batching = ReadBatching()
        self.deadline_timer = DeadlineTimer(settings.timeouts, self.loop)

    def close(self) -> None:
        self.batching.close()
        self.deadline_timer.close()
