"""Permission to send one request, and the channel through which the limiter learns what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from processor.core.models import Cost, RequestSize, Usage
from processor.ratelimit.refusals import Refusal, RefusalCounter
from processor.ratelimit.reservation import Reservation


class PermitGroup(Protocol):
    """What a permit reports to: a ``LimitGroup``, or what stands for one of another process."""

    name: str
    refusals: RefusalCounter

    def sent(self, reservation: Reservation, at: float) -> None: ...

    def responded(self, reservation: Reservation, status: int, headers: Mapping[str, str], at: float) -> None: ...

    def first_token(self, reservation: Reservation, at: float) -> None: ...

    def throttled(self, reservation: Reservation, retry_after_s: float | None, at: float) -> None: ...

    def hold_back(self, reservation: Reservation, wait_s: float, at: float) -> None: ...

    def settled(self, reservation: Reservation, size: RequestSize, used: Usage, at: float) -> None: ...

    def release(self, reservation: Reservation) -> None: ...


class Permit:
    """One request's permission to be sent. The only feedback channel into the limiter; all methods are synchronous.

    Call ``sent`` when the request leaves, ``responded`` when the headers of a response arrive, ``first_token`` when a
    streamed reply begins, ``settled`` when it is complete, and ``release`` always and last. Times are the event loop's.
    Header names are lower case.

    A request that is throttled is reported with ``throttled``, once, when it is known how long to wait. Headers count
    from the moment they arrive, but the wait may stand in the body behind them. A caller that reads the body later
    calls ``responded`` for a 429, too, and then ``throttled``. Whichever comes first applies the headers, so that
    ``throttled`` alone is enough for a caller that knows the wait together with the headers.
    """

    __slots__ = (
        "_group",
        "_on_release",
        "_released",
        "_reservation",
        "_size",
        "cost",
        "granted_at",
        "limit_group",
    )

    def __init__(
        self, group: PermitGroup, size: RequestSize, reservation: Reservation, on_release: Callable[[], None]
    ) -> None:
        self._group = group
        self._size = size
        self._reservation = reservation
        self._on_release = on_release
        self._released = False
        self.cost: Cost = reservation.cost
        self.granted_at = reservation.granted_at
        self.limit_group = group.name
        """The limit group that the request is charged to."""

    def sent(self, at: float) -> None:
        """The request is being sent: from now on the server may count it. Later calls change nothing."""
        if self._reservation.sent_at is None:
            self._group.sent(self._reservation, at)

    def responded(self, status: int, headers: Mapping[str, str], at: float) -> None:
        """The headers of a response have arrived."""
        self._group.responded(self._reservation, status, headers, at)

    def first_token(self, at: float) -> None:
        """The first token of a streamed reply has arrived."""
        self._group.first_token(self._reservation, at)

    def throttled(self, status: int, headers: Mapping[str, str], retry_after_s: float | None, at: float) -> None:
        """The server asks to wait: hold the limit group back for ``retry_after_s``, or for a growing time if None.

        ``status`` and ``headers`` are applied only where ``responded`` has not done it.
        """
        if not self._reservation.responded:
            self._group.responded(self._reservation, status, headers, at)
        self._group.throttled(self._reservation, retry_after_s, at)

    def hold_back(self, wait_s: float, at: float) -> None:
        """A response other than a 429 asks to wait: hold the limit group back for so long."""
        self._group.hold_back(self._reservation, wait_s, at)

    def refused_alone(self) -> None:
        """A 429 that concerns this job alone, see ``is_singled_out``: the limit group learns nothing from it."""
        self._reservation.responded = True

    def refusal(self, at: float) -> Refusal:
        """What is to be remembered of this request, which the server asked to wait."""
        return self._group.refusals.on_refused(at)

    def is_singled_out(self, first: Refusal, own_refusals: int) -> bool:
        """Whether the job of that first refusal holds back only itself: see ``RefusalCounter``."""
        return self._group.refusals.is_singled_out(first, own_refusals)

    def settled(self, usage: Usage | None, at: float) -> None:
        """The reply is complete. None: its usage is not known, and the reservation stands."""
        if usage is not None:
            self._group.settled(self._reservation, self._size, usage, at)

    def release(self) -> None:
        """Free the in-flight slot, and the reservation if nothing was sent. Later calls change nothing."""
        if not self._released:
            self._released = True
            self._group.release(self._reservation)
            self._on_release()
