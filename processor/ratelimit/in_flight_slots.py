"""Requests in flight, over all lanes: so many at a time, first come, first served among the lanes' heads."""

from __future__ import annotations

from collections import deque

from processor.ratelimit.limit_group import LimitGroup


class InFlightSlots:
    def __init__(self, most: int) -> None:
        self.in_flight = 0
        self._most = most
        self._line: deque[LimitGroup] = deque()
        """Lanes whose head needs nothing but a slot, in the order they came to that."""

    def open_to(self, lane: LimitGroup) -> bool:
        return self.in_flight < self._most and (not self._line or self._line[0] is lane)

    def join(self, lane: LimitGroup) -> None:
        """Its bell is rung when it may look again. The place is kept until it is left."""
        if lane not in self._line:
            self._line.append(lane)

    def leave(self, lane: LimitGroup) -> None:
        if lane in self._line:
            self._line.remove(lane)
            self._call()

    def take(self) -> None:
        self.in_flight += 1

    def give(self) -> None:
        self.in_flight -= 1
        self._call()

    def _call(self) -> None:
        if self._line and self.in_flight < self._most:
            self._line[0].bell.ring()
