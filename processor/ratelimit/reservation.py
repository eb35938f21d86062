"""What a request asks of the limits of its group, and what it has taken from them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from processor.core.models import Cost
from processor.ratelimit.headers import Resource

CostByResource = Mapping[Resource, int]


def cost_by_resource(cost: Cost) -> CostByResource:
    """The cost against each limit. A project's limit on tokens counts as the model's."""
    return {
        "requests": cost.requests,
        "tokens": cost.tokens,
        "project_tokens": cost.tokens,
        "input_tokens": cost.input_tokens,
        "output_tokens": cost.output_tokens,
    }


@dataclass(slots=True)
class Reservation:
    """What one request has taken from the limits of its group."""

    cost: Cost
    cost_by_resource: CostByResource
    granted_at: float
    sent_at: float | None = None
    responded: bool = False

    @property
    def effective_sent_at(self) -> float:
        """When the request was sent, or granted while it has not been sent."""
        return self.granted_at if self.sent_at is None else self.sent_at


@dataclass(slots=True)
class QueuedRequest:
    """A request that waits in the queue of its group for a reservation."""

    cost: Cost
    cost_by_resource: CostByResource
    reservation: asyncio.Future[Reservation]
    goes_first: bool

    @classmethod
    def create(cls, cost: Cost, *, goes_first: bool) -> QueuedRequest:
        return cls(cost, cost_by_resource(cost), asyncio.get_running_loop().create_future(), goes_first)

    @property
    def is_done(self) -> bool:
        return self.reservation.done()
