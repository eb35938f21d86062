"""The deadline of a run: nothing is sent whose reply would come after it; what is in flight then has the grace period.

The wall clock is read again whenever it matters, since timers stand still while the machine is suspended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from processor.retry.policy import StopRun

CHECK_EVERY_S = 30.0
"""How late a deadline is noticed at most after the machine was suspended, while nothing is sent."""
UNKNOWN_REPLY_S = 600.0
"""The time of a reply, until enough are known."""


class Deadline:
    """``reply_s`` returns how long nearly every reply takes, UNKNOWN_REPLY_S where that is not known: ``advice`` says
    what the user can do then."""

    def __init__(
        self,
        at_unix_s: float,
        *,
        wall_clock: Callable[[], float],
        reply_s: Callable[[], float],
        grace_s: float,
        advice: str = "",
    ) -> None:
        self._at_unix_s = at_unix_s
        self._wall_clock = wall_clock
        self._reply_s = reply_s
        self._grace_s = grace_s
        self._advice = advice

    @property
    def left_s(self) -> float:
        return self._at_unix_s - self._wall_clock()

    @property
    def sends_for_s(self) -> float:
        """How long requests are sent from now on."""
        return self.left_s - self._reply_s()

    @property
    def is_over(self) -> bool:
        """Whether the grace period after it has ended."""
        return self.left_s + self._grace_s <= 0

    def verdict(self) -> StopRun | None:
        """Return the end of the run where the next reply would come too late."""
        if self.sends_for_s >= 0:
            return None
        at, reply_s = datetime.fromtimestamp(self._at_unix_s), self._reply_s()
        assumed = f", as no reply is known{self._advice}" if reply_s == UNKNOWN_REPLY_S else ""
        reason = (
            f"the deadline {at:%H:%M} leaves no time for a further reply, which may take {reply_s:.0f} s{assumed}; "
            "run again to go on"
        )
        return StopRun(reason=reason, grace_s=max(self.left_s, 0.0) + self._grace_s)


class DeadlineWatch:
    """Ends a run at its deadline, also where nothing is sent. ``abort`` cancels what is in flight after it."""

    def __init__(self, deadline: Deadline, stop: Callable[[StopRun], None], abort: Callable[[], None]) -> None:
        self._deadline = deadline
        self._stop = stop
        self._abort = abort
        self._has_stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._check()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        deadline = self._deadline
        if deadline.is_over:
            self._stop_once()
            self._abort()
            return
        if deadline.sends_for_s < 0:
            self._stop_once()
        next_s = deadline.sends_for_s if deadline.sends_for_s >= 0 else deadline.left_s
        wait_s = min(max(next_s, 1.0), CHECK_EVERY_S)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._check)

    def _stop_once(self) -> None:
        if not self._has_stopped and (verdict := self._deadline.verdict()) is not None:
            self._has_stopped = True
            self._stop(verdict)
