"""The slots for requests in flight, shared by all limit groups, first come, first served."""

from __future__ import annotations

from collections import OrderedDict

from processor.ratelimit.wake_up import WakeUp


class InFlightSlots:
    """Counts the slots that are taken. Each waiter is identified by its WakeUp."""

    def __init__(self, capacity: int) -> None:
        self.in_flight = 0
        self._capacity = capacity
        self._waiters: OrderedDict[WakeUp, None] = OrderedDict()
        """Those that need nothing but a slot, the longest-waiting first. No step looks at all of them."""

    @property
    def has_free(self) -> bool:
        """Whether fewer requests are in flight than there are slots. Others may wait for a free one."""
        return self.in_flight < self._capacity

    @property
    def has_waiters(self) -> bool:
        return bool(self._waiters)

    def available_to(self, waiter: WakeUp) -> bool:
        return self.has_free and (not self._waiters or self._first() is waiter)

    def enqueue(self, waiter: WakeUp) -> None:
        """Fire the WakeUp when a slot is free and the waiter is first. It keeps its place until ``dequeue``."""
        self._waiters.setdefault(waiter)

    def move_to_front(self, waiter: WakeUp) -> None:
        """Let the waiter have the next free slot."""
        self._waiters[waiter] = None
        self._waiters.move_to_end(waiter, last=False)

    def dequeue(self, waiter: WakeUp) -> None:
        if waiter in self._waiters:
            del self._waiters[waiter]
            self._wake_first()

    def acquire(self, waiter: WakeUp) -> None:
        """Take a slot, which must be free: the waiter, if it has waited, is done."""
        self.in_flight += 1
        if waiter in self._waiters:
            self.dequeue(waiter)

    def release(self) -> None:
        self.in_flight -= 1
        self._wake_first()

    def _wake_first(self) -> None:
        if self._waiters and self.has_free:
            self._first().fire()

    def _first(self) -> WakeUp:
        return next(iter(self._waiters))
