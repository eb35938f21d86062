"""A fixed rate: evenly, and never more than the limit in any 60 seconds. Pure.

It serves where the headers cannot govern: a limit that is configured for a server that reports none, and a limit that
is configured below what the server grants (`maximum`), which no 60-second window may exceed.
"""

from __future__ import annotations

from math import inf

from processor.ratelimit.estimator.server_model import ServerModel
from processor.ratelimit.strategies.base import Strategy
from processor.ratelimit.strategies.pacer import Pacer


class FixedRate(Strategy):
    def __init__(self, model: ServerModel, pacer: Pacer, maximum: float | None = None) -> None:
        """``maximum``: a minute's, below the server's limit; None: the model's limit is the configured one."""
        super().__init__(model, pacer)
        self.maximum = maximum

    @property
    def pacing_limit(self) -> float:
        return self._model.limit if self.maximum is None else self.maximum

    def earliest(self, cost: float, now: float) -> float:
        model = self._model
        cost = min(cost, model.limit)
        at = max(model.earliest(cost, now), self._pacer.earliest(cost, self.pacing_limit))
        return at if self.maximum is None else max(at, model.earliest_in_own_window(cost, self.maximum, now))

    def throttled(self, granted_at: float, at: float, *, had_room: bool, is_new: bool) -> None:
        super().throttled(granted_at, at, had_room=had_room, is_new=is_new)
        # Where headers show that the room was used up, the model keeps more in reserve instead.
        is_pace_too_fast = had_room or self._model.headers_at == -inf or self._model.is_small_bucket
        if is_new and is_pace_too_fast and self._pacer.assume_per_second_bucket:
            self._pacer.back_off(at)
