"""The queue of a limit group."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar


class QueueEntry(Protocol):
    @property
    def is_done(self) -> bool:
        """Whether the entry was served, or waits no longer."""


E = TypeVar("E", bound=QueueEntry)


class FairQueue(Generic[E]):
    """First in, first out; retries and new jobs take turns while both wait. The head stays the head until it is done.
    What goes first overtakes both, so that a job that has begun does not wait for those that have not.

    Entries that are done are dropped when they come to the head.
    """

    def __init__(self) -> None:
        self._first: deque[E] = deque()
        self._new: deque[E] = deque()
        self._retries: deque[E] = deque()
        self._retry_next = True
        self._head: E | None = None
        self._taken_from = self._new
        """Where the head came from."""

    @property
    def waiting(self) -> int:
        """How many entries wait. It looks at all of them, for the few times that a user asks."""
        return sum(
            not entry.is_done for entry in (self._head, *self._first, *self._new, *self._retries) if entry is not None
        )

    def put(self, entry: E, *, is_retry: bool, goes_first: bool = False) -> None:
        if goes_first:
            self._first.append(entry)
            self._give_way()
        else:
            (self._retries if is_retry else self._new).append(entry)

    def _give_way(self) -> None:
        """Put the head back, as the next of its kind, where it does not go first itself."""
        if self._head is not None and self._taken_from is not self._first:
            self._taken_from.appendleft(self._head)
            self._retry_next = self._taken_from is self._retries
            self._head = None

    def head(self) -> E | None:
        """The entry to be served next: the same one until it is done. None: none waits."""
        if self._head is None or self._head.is_done:
            self._head = self._pop()
        return self._head

    def _pop(self) -> E | None:
        while entries := self._first or (
            (self._retries or self._new) if self._retry_next else (self._new or self._retries)
        ):
            entry = entries.popleft()
            if not entry.is_done:
                if entries is not self._first:
                    self._retry_next = entries is self._new
                self._taken_from = entries
                return entry
        return None
