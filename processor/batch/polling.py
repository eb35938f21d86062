"""How long to wait between two questions for the state of the batches. Pure."""

from __future__ import annotations

GROWTH = 1.5


class PollIntervals:
    """The waits grow from the first bound to the second, and start again when something has changed."""

    def __init__(self, min_s: float, max_s: float) -> None:
        self._min_s = min_s
        self._max_s = max(min_s, max_s)
        self._next_s = min_s

    def next_s(self) -> float:
        wait_s, self._next_s = self._next_s, min(self._next_s * GROWTH, self._max_s)
        return wait_s

    def reset(self) -> None:
        """Something has changed: more may soon."""
        self._next_s = self._min_s
