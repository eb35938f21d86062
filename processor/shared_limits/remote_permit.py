"""What a permit of a shared limiter reports to: each report becomes a message with the permit's number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from processor.core.models import RequestSize, Usage
from processor.cost.budget import Budget, BudgetReservation
from processor.ratelimit.refusals import RefusalCounter
from processor.ratelimit.reservation import Reservation
from processor.shared_limits.messages import (
    GroupHeldBack,
    PermitGranted,
    PermitReleased,
    PermitResponded,
    PermitSent,
    PermitSettled,
    PermitThrottled,
    ToLimiter,
)


@dataclass(slots=True)
class NumberedReservation(Reservation):
    """A reservation at the shared limiter."""

    number: int = 0
    reserved: BudgetReservation | None = None


@dataclass(slots=True, eq=False)
class WaitingForPermit:
    """A request that waits for its permit."""

    size: RequestSize
    is_retry: bool
    worst_pico: int | None
    granted: asyncio.Future[PermitGranted]
    number: int = 0
    """Under which it was asked for last."""


class RemoteGroup:
    """A ``PermitGroup``: what a limit group of the shared limiter is told, and who is refused in this session."""

    def __init__(self, name: str, tell: Callable[[ToLimiter], None]) -> None:
        self.name = name
        self.refusals = RefusalCounter()
        self._tell = tell

    def sent(self, reservation: Reservation, at: float) -> None:
        reservation.sent_at = at
        self._tell(PermitSent(_number(reservation), at))

    def responded(self, reservation: Reservation, status: int, headers: Mapping[str, str], at: float) -> None:
        reservation.responded = True
        self._tell(PermitResponded(_number(reservation), status, dict(headers), at))

    def first_token(self, reservation: Reservation, at: float) -> None:
        """Not told to the shared limiter: a message for each request would only make the start faster."""

    def throttled(self, reservation: Reservation, retry_after_s: float | None, at: float) -> None:
        self._tell(PermitThrottled(_number(reservation), retry_after_s, at))

    def hold_back(self, reservation: Reservation, wait_s: float, at: float) -> None:
        self._tell(GroupHeldBack(_number(reservation), wait_s, at))

    def settled(self, reservation: Reservation, size: RequestSize, used: Usage, at: float) -> None:
        if reservation.sent_at is not None:
            self.refusals.on_answered(reservation.sent_at)
        self._tell(PermitSettled(_number(reservation), used, at))

    def release(self, reservation: Reservation) -> None:
        assert isinstance(reservation, NumberedReservation)
        if (reserved := reservation.reserved) is not None:
            # What becomes of a request that was sent and has not been settled is not known.
            reserved.release() if reservation.sent_at is None else reserved.keep()
        self._tell(PermitReleased(reservation.number, reservation.responded))


class ToldReservation(BudgetReservation):
    """The session's own record of a reservation that the shared budget holds, too."""

    __slots__ = ("_tell",)

    def __init__(self, budget: Budget, worst_pico: int, tell: Callable[[int], None]) -> None:
        budget.reserved_pico += worst_pico
        super().__init__(budget, worst_pico)
        self._tell = tell

    def settle(self, pico: int) -> None:
        """The request has cost so much."""
        if self.is_open:
            super().release()
            self._budget.spend(pico)
            self._tell(pico)

    def release(self) -> None:
        """The request has cost nothing."""
        self.settle(0)


def _number(reservation: Reservation) -> int:
    assert isinstance(reservation, NumberedReservation)
    return reservation.number
