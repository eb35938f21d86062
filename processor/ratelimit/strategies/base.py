"""The interface of a rate-limiting strategy: when may a cost be sent under one limit? Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf

from processor.ratelimit.estimator.server_model import UNLIMITED, ServerModel
from processor.ratelimit.strategies.pacer import Pacer


class Strategy(ABC):
    """All strategies of a limit share its server model and its pacer, so that one can take over from another.

    The model is kept up to date by the `ResourceLimiter`; a strategy decides, and keeps the pacer up to date.
    """

    def __init__(self, model: ServerModel, pacer: Pacer) -> None:
        self._model = model
        self._pacer = pacer
        self.headers_believed_until = inf
        """When the server first sent a 429 although its headers showed room; inf: it has sent none."""

    @property
    @abstractmethod
    def pacing_limit(self) -> float:
        """What even pacing goes by, a minute; UNLIMITED: there is no pacing."""

    @abstractmethod
    def earliest(self, cost: float, now: float) -> float:
        """The earliest time at which this cost may be sent, as far as is known now; inf: not before something else
        happens."""

    def record(self, cost: float, at: float) -> None:
        """A request of this cost is granted."""
        limit = self.pacing_limit
        if limit < UNLIMITED:
            self._pacer.record(cost, limit, at)

    def refund(self, cost: float) -> None:
        """Recorded costs turned out to be lower by this much, or were never sent."""
        self._pacer.refund(cost, self.pacing_limit)

    def observe(self, granted_at: float) -> None:  # noqa: B027 (optional)
        """A request granted then has its response, or will never have one. The model has seen its headers."""

    def on_sent(self, at: float) -> None:  # noqa: B027 (optional)
        """A request has been sent."""

    def on_accepted(self, sent_at: float) -> None:  # noqa: B027 (optional)
        """A request sent then has been answered without a 429."""

    def throttled(self, granted_at: float, at: float, *, had_room: bool, is_new: bool) -> None:
        """A request granted then was refused at ``at``.

        ``had_room``: its headers showed room for it. ``is_new``: it was granted after the last refusal arrived.
        """
        if had_room:
            self.headers_believed_until = min(self.headers_believed_until, at)

    def deactivate(self) -> None:  # noqa: B027 (optional)
        """Another strategy takes over."""
