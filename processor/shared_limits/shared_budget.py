"""A budget that the sessions of several processes share."""

from __future__ import annotations

import asyncio
from collections import Counter

from processor.cost.budget import Budget, BudgetReservation, Fit
from processor.shared_limits.messages import BudgetOpening, BudgetSpent


class SharedBudget:
    """Reserves the worst case of each request before it is sent, as ``Budget`` does for one run.

    Spending is counted for each file that records it. While a session takes part, only that session reports the
    spending of its file. What another session finds in a file counts where it exceeds what was reported.
    """

    def __init__(self, limit_pico: int) -> None:
        self._budget = Budget(limit_pico)
        self._spent: Counter[str] = Counter()
        """In 1e-12 USD, by file."""
        self._changed = asyncio.Event()
        self.files: dict[str, str] = {}
        """Of the sessions that take part, by their names."""

    def join(self, session: str, opening: BudgetOpening) -> None:
        """A session takes part, with the spending that it has found. The limit that was given last holds."""
        self.files[session] = opening.file
        self._budget.limit_pico = opening.limit_pico
        reported_by_others = {file for name, file in self.files.items() if name != session}
        for file, pico in opening.spent_pico.items():
            if file not in reported_by_others and pico > self._spent[file]:
                self._spend(file, pico - self._spent[file])
        self._wake()

    async def reserve(self, worst_pico: int) -> BudgetReservation:
        """Wait until the request fits. Raises BudgetSpent where it never will."""
        while (fit := self._budget.fit(worst_pico)) is not Fit.FITS:
            if fit is Fit.EXCEEDS:
                raise BudgetSpent(self._budget.exhaust(worst_pico, "one of the sessions that share it"))
            await self._changed.wait()
        return self._budget.reserve(worst_pico)

    def settle(self, session: str, reserved: BudgetReservation, pico: int) -> None:
        """The request of a session has cost so much. Later calls change nothing."""
        if reserved.is_open:
            reserved.release()
            self._spend(self.files[session], pico)
            self._wake()

    def end(self, session: str, reserved: BudgetReservation, *, may_be_billed: bool) -> None:
        """Nobody says any more what the request has cost."""
        self.settle(session, reserved, reserved.worst_pico if may_be_billed else 0)

    def _spend(self, file: str, pico: int) -> None:
        self._spent[file] += pico
        self._budget.spend(pico)

    def _wake(self) -> None:
        """Let all that wait look again, the longest-waiting first."""
        self._changed.set()
        self._changed = asyncio.Event()
