"""What a request asks of the limits of its group, and what it has taken from them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from processor.core.models import Cost, RequestSize
from processor.ratelimit.headers import Resource
from processor.ratelimit.settings import TokenAccounting
from processor.ratelimit.token_cost import ExpectedOutput, request_cost

if TYPE_CHECKING:
    from processor.ratelimit.permit import Permit

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


class QueuedRequest:
    """A request that waits in the queue of its group for its permit.

    Its cost is estimated again when it reaches the head of the queue. By then its encoding may be loaded, and the
    length of replies be known.
    """

    __slots__ = (
        "_accounting",
        "_expected_output",
        "_expected_tokens",
        "cost",
        "cost_by_resource",
        "permit",
        "size",
    )

    def __init__(self, size: RequestSize, accounting: TokenAccounting, expected_output: ExpectedOutput) -> None:
        self.size = size
        self._accounting: TokenAccounting = accounting
        self._expected_output = expected_output
        self.permit: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._estimate()

    @property
    def is_done(self) -> bool:
        return self.permit.done()

    def renew(self) -> None:
        """Estimate again what it is charged, where more is known than before."""
        size = self.size
        if size.recount is not None:
            self.size = size.as_known_now()
        elif size.max_tokens is not None or self._expected_tokens == self._expected_output.tokens:
            return
        self._estimate()

    def _estimate(self) -> None:
        self._expected_tokens = self._expected_output.tokens
        self.cost = request_cost(self.size, self._accounting, self._expected_tokens)
        self.cost_by_resource = cost_by_resource(self.cost)
