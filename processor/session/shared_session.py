"""A session whose limits, budget and journal's folder are shared with those of other processes."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from processor.app.pool_with_limiter import LimiterNeeds
from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.events import Transport
from processor.core.models import RequestSize, Target
from processor.cost.worst_case import worst_case_pico
from processor.endpoints.endpoint import Limiter
from processor.session.journal_folder import JournalFolder
from processor.session.opening import SessionOptions
from processor.session.session import Session
from processor.shared_limits.link import ConnectLimiter
from processor.shared_limits.messages import BudgetOpening, LimiterOpening
from processor.shared_limits.shared_limiter import SharedLimiter

Connect = Callable[[Target, tuple[str, ...]], ConnectLimiter]
"""Returns what connects to the limiter of a target's key; of its key command, where it has one."""


class SharedSession:
    """A session, and the limiter that it uses together with others."""

    def __init__(
        self,
        settings: Settings | None,
        journal: Path | None,
        connect: Connect,
        *,
        program: str,
        transport: Transport | None = None,
    ) -> None:
        """``program``: the name of the budget where there is no journal."""
        if settings is not None and settings.ray.address is not None:
            raise ConfigError(
                f"the sessions send the requests themselves: leave out the cluster {settings.ray.address}"
            )
        self._connect = connect
        self._program = program
        self._folder = None if journal is None else JournalFolder(journal)
        self._limiter: SharedLimiter | None = None
        self.session = Session.with_options(
            SessionOptions(
                settings=settings,
                journal=None,
                journal_folder=self._folder,
                make_limiter=self._make_limiter,
                listeners=(),
                transport=transport,
                environ=None if transport is None else {},
            )
        )

    async def open(self) -> None:
        """Raises ConfigError."""
        await self.session.__aenter__()

    async def close(self) -> None:
        await self.session.__aexit__(None, None, None)
        if self._limiter is not None:
            await self._limiter.close()

    async def read_new_rows(self) -> None:
        """Read what the other sessions have appended to the folder of the journal."""
        if self._folder is not None:
            await self._folder.read_new()

    def _make_limiter(self, needs: LimiterNeeds) -> Limiter:
        gate = needs.budget
        self._limiter = SharedLimiter(
            self._connect(needs.target, () if (command := needs.access.key_command) is None else command.args),
            LimiterOpening(
                session=secrets.token_hex(8),
                limits=needs.limits,
                concurrency=needs.fixed_concurrency,
                budget=None if gate is None else self._budget_opening(gate.budget.limit_pico),
            ),
            max_in_flight=needs.max_in_flight,
            emit=needs.health.emit_from_limiter,
            on_unusable=needs.health.stop,
            budget=None if gate is None else gate.budget,
            worst_pico=None if gate is None else self._worst_pico(needs),
            spent_elsewhere=None if self._folder is None else self._folder.spent_by_others,
        )
        return self._limiter

    def _budget_opening(self, limit_pico: int) -> BudgetOpening:
        if self._folder is None:
            return BudgetOpening(name=self._program, limit_pico=limit_pico, file=secrets.token_hex(8))
        return BudgetOpening(name=str(self._folder.folder.resolve()), limit_pico=limit_pico, file=self._folder.own.name)

    def _worst_pico(self, needs: LimiterNeeds) -> Callable[[RequestSize], int | None]:
        prices, base_url = needs.prices, needs.target.base_url

        def worst_pico(size: RequestSize) -> int | None:
            tariff = prices.known(base_url, size.model)
            return None if tariff is None or size.bounds is None else worst_case_pico(tariff, size.bounds)

        return worst_pico
