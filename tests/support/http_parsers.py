"""A response parser for tests of the code that feeds it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

LAST_BYTES = b"the end"


@dataclass
class RecordingParser:
    """Keeps each piece of a body, and when it came. It is done after ``LAST_BYTES``."""

    pieces: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    on_piece: Callable[[], None] = lambda: None
    is_complete: bool = False
    altered: frozenset[str] = frozenset()
    accumulator: None = None
    has_backlog: bool = False
    is_large: bool = False

    @property
    def is_done(self) -> bool:
        return bool(self.pieces) and self.pieces[-1].endswith(LAST_BYTES)

    def feed(self, data: bytes) -> bool:
        self.pieces.append(data)
        self.times.append(time.perf_counter())
        self.on_piece()
        return self.is_done

    def work_off(self) -> None:
        """There is no work."""

    def close(self) -> None:
        self.is_complete = True

    def result(self) -> dict[str, object]:
        return {}
