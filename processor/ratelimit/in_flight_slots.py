"""The slots for requests in flight, shared by all limit groups, first come, first served."""

from __future__ import annotations

from collections import deque

from processor.ratelimit.fair_queue import WakeUp


class InFlightSlots:
    """Counts the slots that are taken. Each waiter is identified by its WakeUp."""

    def __init__(self, capacity: int) -> None:
        self.in_flight = 0
        self._capacity = capacity
        self._waiters: deque[WakeUp] = deque()
        """Those that need nothing but a slot, the longest-waiting first."""

    def available_to(self, waiter: WakeUp) -> bool:
        return self.in_flight < self._capacity and (not self._waiters or self._waiters[0] is waiter)

    def enqueue(self, waiter: WakeUp) -> None:
        """Fire the WakeUp when a slot is free and the waiter is first. It keeps its place until ``dequeue``."""
        if waiter not in self._waiters:
            self._waiters.append(waiter)

    def move_to_front(self, waiter: WakeUp) -> None:
        """Let the waiter have the next free slot."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        self._waiters.appendleft(waiter)

    def dequeue(self, waiter: WakeUp) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            self._wake_first()

    def acquire(self) -> None:
        self.in_flight += 1

    def release(self) -> None:
        self.in_flight -= 1
        self._wake_first()

    def _wake_first(self) -> None:
        if self._waiters and self.in_flight < self._capacity:
            self._waiters[0].fire()
