"""The permit of a request where there are several endpoints: it counts at one of them, and in the limits of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from processor.core.models import Usage
from processor.cost.budget import BudgetReservation
from processor.endpoints.endpoint import Endpoint, EndpointPermit
from processor.ratelimit.permit import Permit
from processor.ratelimit.wake_up import WakeUp


class SharedPermit(EndpointPermit):
    """Takes the place of both permits. Its end fires ``wake_ups``, beside those of its limit groups; ``on_use_changed``
    is told the endpoint when it gets a request and when it is done with it."""

    __slots__ = ("_is_sent", "_on_use_changed", "_run_permit", "_wake_ups")

    def __init__(
        self,
        permit: EndpointPermit,
        run_permit: Permit,
        wake_ups: Iterable[WakeUp],
        on_use_changed: Callable[[Endpoint], None],
        reserved: BudgetReservation | None = None,
    ) -> None:
        super().__init__(
            permit.endpoint, permit, permit.job, is_probe=permit.is_probe, has_canary_turn=permit._has_canary_turn
        )
        self.reserved = reserved
        self._is_sent = False
        self._run_permit = run_permit
        self._wake_ups = wake_ups
        self._on_use_changed = on_use_changed
        permit.endpoint.in_flight += 1
        permit.endpoint.granted += 1
        on_use_changed(permit.endpoint)

    def sent(self, at: float) -> None:
        super().sent(at)
        self._is_sent = True
        self._run_permit.sent(at)

    def responded(self, status: int, headers: Mapping[str, str], at: float) -> None:
        """The headers are those of one endpoint: the limits of the run learn nothing from them."""
        super().responded(status, headers, at)
        if status == 429:
            self._run_permit.refused_alone()
        else:
            self._run_permit.responded(status, {}, at)

    def first_token(self, at: float) -> None:
        super().first_token(at)
        self._run_permit.first_token(at)

    def throttled(self, status: int, headers: Mapping[str, str], retry_after_s: float | None, at: float) -> None:
        super().throttled(status, headers, retry_after_s, at)
        self._run_permit.refused_alone()

    def refused_alone(self) -> None:
        super().refused_alone()
        self._run_permit.refused_alone()

    def settled(self, usage: Usage | None, at: float) -> None:
        super().settled(usage, at)
        self._run_permit.settled(usage, at)

    def release(self) -> None:
        if not self._released:
            self.endpoint.in_flight -= 1
            self._on_use_changed(self.endpoint)
        if self.reserved is not None:
            # What becomes of a request that was sent and has not been settled is not known.
            self.reserved.keep() if self._is_sent else self.reserved.release()
        super().release()
        self._run_permit.release()
        for wake_up in self._wake_ups:
            wake_up.fire()
