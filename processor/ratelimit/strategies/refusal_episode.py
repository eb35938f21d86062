"""What a refusal shows, by what became of the requests that went with it. Pure."""

from __future__ import annotations

from collections import deque
from math import inf

from processor.ratelimit.estimator.send_history import WINDOW_S

_KEPT = 1024
_LAST = 8
"""Requests over which the last pace is measured."""
_LATELY = 24
"""Requests over which it is measured what is let through."""
_FEW = 3
"""Fewer of them show nothing."""

_STORM = 0.5
"""The share of what was sent behind a refusal that is refused, too, where a limit is full."""

_MANY = 0.3
"""The share of all that was sent that is no chance, if it happens again."""

_PAUSE_S = 2.0
"""As long as pauses after a refusal usually are."""

_SETTLED_S = 0.5
"""After a refusal, until all others have come that went with it."""


class RefusalEpisode:
    """The requests that went since the last lesson, and which of them were refused. Times are seconds."""

    def __init__(self, since: float = -inf) -> None:
        self.since = since
        self.sent = 0
        self._times: deque[float] = deque(maxlen=_KEPT)
        """When the last of them went."""
        self._refused: list[float] = []
        """When those went that were refused."""
        self.heard_at = -inf
        """When the last refusal came."""

    def send(self, at: float) -> None:
        self._times.append(at)
        self.sent += 1

    def refuse(self, sent_at: float, heard_at: float) -> None:
        self._refused.append(sent_at)
        self.heard_at = heard_at

    @property
    def refused(self) -> int:
        return len(self._refused)

    @property
    def let_through(self) -> int:
        return self.sent - self.refused

    def is_over(self, now: float) -> bool:
        """Whether something was refused, and no more is to come of it."""
        return self.refused > 0 and now >= self.heard_at + _SETTLED_S

    @property
    def is_empty(self) -> bool:
        """Nothing was let through."""
        return self.let_through <= 0

    @property
    def is_crowded(self) -> bool:
        return self.refused >= _MANY * self.sent

    @property
    def is_telling(self) -> bool:
        """Whether enough went behind the first that was refused to know what became of it."""
        return self._behind(self._times) >= _FEW

    @property
    def is_storm(self) -> bool:
        """Most of what went behind was refused, too."""
        return self.is_telling and self._behind(self._refused) >= _STORM * self._behind(self._times)

    @property
    def is_long(self) -> bool:
        return self.sent >= _LATELY

    def bears(self) -> float:
        """What was let through lately, a minute: with the pause before it, if that is not long ago. inf: who knows."""
        if self.sent < _LAST:
            return inf
        lately = min(self.sent, _LATELY)
        since = self._times[-_LATELY] if self.sent > _LATELY else max(self.since, self._times[0] - _PAUSE_S)
        return (lately - self.refused) * WINDOW_S / max(1e-3, self._times[-1] - since)

    def pace(self) -> float:
        """A minute, of the last requests before the first that was refused. inf: who knows."""
        last = [at for at in self._times if at <= min(self._refused)][-_LAST:]
        return WINDOW_S * (len(last) - 1) / max(1e-3, last[-1] - last[0]) if len(last) >= _FEW else inf

    def _behind(self, times: list[float] | deque[float]) -> int:
        first = min(self._refused)
        return sum(at > first for at in times)
