"""A budget that the sessions of several processes share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from processor.cost.budget import Budget, BudgetReservation, Fit
from processor.shared_limits.messages import BudgetOpening, BudgetSpent


class SharedBudget:
    """Reserves the worst case of each request before it is sent, as ``Budget`` does for one run."""

    def __init__(self, opening: BudgetOpening) -> None:
        self._budget = Budget(opening.limit_pico)
        self._known_files: set[str] = set()
        self._changed = asyncio.Event()
        self.sessions: set[str] = set()

    def join(self, session: str, opening: BudgetOpening) -> None:
        """A session takes part, with the spending that it has found. The limit that was given last holds."""
        self.sessions.add(session)
        self._budget.limit_pico = opening.limit_pico
        self._count_files(opening.spent_pico)
        self._wake()

    async def reserve(self, worst_pico: int) -> BudgetReservation:
        """Wait until the request fits. Raises BudgetSpent where it never will."""
        while (fit := self._budget.fit(worst_pico)) is not Fit.FITS:
            if fit is Fit.EXCEEDS:
                raise BudgetSpent(self._budget.exhaust(worst_pico, "one of the sessions that share it"))
            await self._changed.wait()
        return self._budget.reserve(worst_pico)

    def settle(self, reserved: BudgetReservation, pico: int) -> None:
        """The request has cost so much."""
        reserved.settle(pico)
        self._wake()

    def end(self, reserved: BudgetReservation, *, may_be_billed: bool) -> None:
        """Nobody says any more what the request has cost."""
        if may_be_billed:
            reserved.keep()
        else:
            reserved.release()
        self._wake()

    def _count_files(self, spent_pico: Mapping[str, int]) -> None:
        for file, pico in spent_pico.items():
            if file not in self._known_files:
                self._known_files.add(file)
                self._budget.spend(pico)

    def _wake(self) -> None:
        """Let all that wait look again, the longest-waiting first."""
        self._changed.set()
        self._changed = asyncio.Event()
