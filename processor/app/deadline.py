"""Makes the deadline of a run, which knows how long replies take: those of earlier runs, then those of this one."""

from __future__ import annotations

from collections.abc import Callable

from processor.app.plan import Plan
from processor.core.text import setting_name
from processor.scheduler.deadline import UNKNOWN_REPLY_S, Deadline
from processor.stats.run_stats import RunStats

MIN_REPLIES = 20
"""Replies of this run that show how long others take."""
SHARE = 0.99
RENEWED_AFTER = 1.02
"""The percentile is computed again when the replies have grown by so much."""


class ReplyTime:
    """How long all but one reply in a hundred take, in seconds."""

    def __init__(self, stats: RunStats, earlier_s: float | None) -> None:
        """``earlier_s``: in earlier runs; None: not known."""
        self._durations = stats.replies.total
        self._seconds = UNKNOWN_REPLY_S if earlier_s is None else earlier_s
        self._renewed_at = MIN_REPLIES

    def __call__(self) -> float:
        if self._durations.count >= self._renewed_at:
            self._renewed_at = int(self._durations.count * RENEWED_AFTER) + 1
            self._seconds = self._durations.quantile(SHARE) or self._seconds
        return self._seconds


def open_deadline(plan: Plan, stats: RunStats, wall_clock: Callable[[], float]) -> Deadline | None:
    """Return the deadline of the plan; None where it has none. Raises ConfigError."""
    if plan.until is None:
        return None
    from processor.app.estimate import known_replies  # plain runs need no estimate

    earlier = known_replies(plan, plan.like).all
    reply_s = ReplyTime(stats, None if earlier is None else earlier.quantile_s(SHARE))
    advice = f" ({setting_name('like', 'RESULTS')} tells how long they take)"
    return Deadline(plan.until, wall_clock=wall_clock, reply_s=reply_s, grace_s=plan.settings.grace_s, advice=advice)
