"""The budget of an output: what is spent, and what is reserved for the requests in flight. Pure; in 1e-12 US dollars.

Each request reserves its worst case before it is sent. The sum of what is spent and what is reserved never exceeds the
budget, so that it holds whatever the requests in flight turn out to cost.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from processor.core.money import in_dollars, usd
from processor.core.text import setting_name

NOTICE_SHARE = 0.8
"""The share of the budget that is spent when a notice says so."""


class Fit(Enum):
    """Whether a request may be sent."""

    FITS = auto()
    WAITS = auto()
    """It may fit once the requests in flight have turned out cheaper than their worst cases."""
    EXCEEDS = auto()
    """It does not fit whatever these cost."""
    UNKNOWN = auto()
    """Its worst case is not known."""


class Budget:
    """``spent_pico``: in earlier runs. ``on_mostly_spent`` is called once, when NOTICE_SHARE is spent."""

    def __init__(
        self, limit_pico: int, spent_pico: int = 0, on_mostly_spent: Callable[[Budget], None] = lambda budget: None
    ) -> None:
        self.limit_pico = limit_pico
        self.spent_pico = spent_pico
        """Also what may have been spent for requests that broke off."""
        self.reserved_pico = 0
        self.needed_pico: int | None = None
        """The least budget with which the next job could have been sent; None until one did not fit."""
        self._on_mostly_spent: Callable[[Budget], None] | None = on_mostly_spent

    @property
    def left_pico(self) -> int:
        """What is not spent; a part of it may be reserved."""
        return self.limit_pico - self.spent_pico

    def fit(self, worst_pico: int) -> Fit:
        """Return whether a request that costs at most so much may be sent."""
        if self.spent_pico + self.reserved_pico + worst_pico <= self.limit_pico:
            return Fit.FITS
        return Fit.WAITS if self.spent_pico + worst_pico <= self.limit_pico else Fit.EXCEEDS

    def reserve(self, worst_pico: int) -> BudgetReservation:
        """Reserve the worst case of a request for which ``fit`` says FITS."""
        self.reserved_pico += worst_pico
        return BudgetReservation(self, worst_pico)

    def spend(self, pico: int) -> None:
        self.spent_pico += pico
        self.report_if_mostly_spent()

    def in_usd(self) -> tuple[float, float]:
        """Return what is spent, and the limit, in US dollars."""
        return usd(self.spent_pico), usd(self.limit_pico)

    def needed_usd(self) -> float | None:
        return None if self.needed_pico is None else usd(self.needed_pico)

    def exhaust(self, worst_pico: int, place: str) -> str:
        """The job in this place does not fit, and nothing more is sent: return why.

        ``worst_pico``: the most that its request can cost.
        """
        self.needed_pico = self.spent_pico + worst_pico
        left_pico = max(self.left_pico, 0)
        limit, worst, spent, left = in_dollars(self.limit_pico, worst_pico, self.spent_pico, left_pico)
        return (
            f"the budget of {limit} USD does not suffice for the job in {place}, which may cost {worst} USD: "
            f"{spent} USD are spent, {left} USD are left; to go on, run again with a larger "
            f"{setting_name('max_cost_usd')}"
        )

    def report_if_mostly_spent(self) -> None:
        """Where all of it is spent, the end of the run says so."""
        is_mostly_spent = NOTICE_SHARE * self.limit_pico <= self.spent_pico < self.limit_pico
        if self._on_mostly_spent is not None and is_mostly_spent:
            report, self._on_mostly_spent = self._on_mostly_spent, None
            report(self)


class BudgetReservation:
    """What one request has reserved. It ends with the first of ``settle``, ``keep`` and ``release``."""

    __slots__ = ("_budget", "is_open", "worst_pico")

    def __init__(self, budget: Budget, worst_pico: int) -> None:
        self._budget = budget
        self.worst_pico = worst_pico
        self.is_open = True

    def settle(self, pico: int) -> None:
        """The request has cost so much."""
        if self.is_open:
            self.release()
            self._budget.spend(pico)

    def keep(self) -> None:
        """The request may have cost its worst case."""
        self.settle(self.worst_pico)

    def release(self) -> None:
        """The request has cost nothing."""
        if self.is_open:
            self.is_open = False
            self._budget.reserved_pico -= self.worst_pico
