"""How long a stream may be left to gather: learned from the replies before it. Pure.

Reading a stream segment by segment costs more than all that is done with what is read, and nobody waits for the single
word. A pause between two reads puts the end of the reply off by half its length on average, and so may be but a small
share of what such a reply takes.
"""

from __future__ import annotations

MAX_DELAY_SHARE = 0.03
"""Of the time a reply is expected to take. The bound on the mean delay follows: see ``ReplyTiming.pause_s``."""

AGE_DIVISOR = 3

LEAST_S = 0.02
LONGEST_S = 1.0

MIN_GAPS = 1.5
"""Times the usual gap between two reads: a shorter pause costs about as much as it saves."""

READ_AS_IT_COMES = 32
"""One reply in so many is never paused: from it the time between segments is learned."""

MEMORY = 64
"""Replies after which what was learned has faded."""


class ReplyTiming:
    """Of replies of one kind. Times are seconds, from a reply's first token."""

    __slots__ = ("_gap_s", "_gaps", "_opened", "_per_s", "_replies")

    def __init__(self) -> None:
        self._per_s = 0.0
        """The mean of 1 / duration: its inverse is the harmonic mean, which short replies weigh down most."""
        self._replies = 0
        self._gap_s = 0.0
        """Between two segments, on average."""
        self._gaps = 0
        self._opened = 0

    def opens(self) -> bool:
        """A reply begins. Whether its reading may be paused."""
        self._opened += 1
        return self._opened % READ_AS_IT_COMES != 0

    def learn(self, took_s: float, reads: int | None) -> None:
        """A reply has ended. ``reads`` is None where pauses have made them fewer than its segments."""
        took_s = max(took_s, 1e-3)
        self._replies = min(self._replies + 1, MEMORY)
        self._per_s += (1 / took_s - self._per_s) / self._replies
        if reads:
            self._gaps = min(self._gaps + 1, MEMORY)
            self._gap_s += (took_s / reads - self._gap_s) / self._gaps

    def pause_s(self, age_s: float) -> float:
        """For a reply whose first token came so long ago; 0: none.

        The last pause p of a reply that takes T delays it by p/2 on average. With H the harmonic mean of T, and p at
        most SHARE x max(H, T/3), the mean of p/2T is at most SHARE/2 x (mean of H/T + 1/3) = SHARE/2 x 4/3 = 2 %,
        whatever lengths are mixed; where all are alike it is 1.5 %.
        """
        if not self._gaps:
            return 0.0
        pause_s = min(MAX_DELAY_SHARE * max(1 / self._per_s, age_s / AGE_DIVISOR), LONGEST_S)
        return pause_s if pause_s >= max(LEAST_S, MIN_GAPS * self._gap_s) else 0.0
