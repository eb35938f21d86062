"""The budget of a run with batches: a whole batch is reserved at its worst case before it is submitted."""

from __future__ import annotations

from decimal import Decimal
from math import ceil

from processor.batch.open_batch import OpenBatch
from processor.core.errors import ConfigError
from processor.core.models import Failure, Job, RequestSize
from processor.core.money import pico_usd
from processor.core.text import setting_name
from processor.cost.budget import Budget, BudgetReservation, Fit
from processor.cost.price_list import PriceList
from processor.cost.worst_case import why_unknown, worst_case_pico
from processor.output.sink import Sink
from processor.protocols import protocol_for
from processor.protocols.token_bounds import TokenRatios, token_bounds
from processor.tokens.counter import TokenCounter


class BatchBudget:
    """Reserves and settles batches. ``factor``: the share of the price that is charged in a batch; None: all of it."""

    def __init__(
        self, budget: Budget, prices: PriceList, counter: TokenCounter, sink: Sink, base_url: str, factor: float | None
    ) -> None:
        self.budget = budget
        self._prices = prices
        self._counter = counter
        self._sink = sink
        self._base_url = base_url
        self._factor = Decimal(repr(1.0 if factor is None else factor))
        self._ratios = TokenRatios()
        self._reserved: dict[str, BudgetReservation] = {}
        """By the name of the batch."""

    async def worst_pico(self, job: Job, size: RequestSize) -> int | Failure:
        """Return the most that a job can cost, or why it cannot be sent. Raises ConfigError without a price."""
        tariff = await self._prices.tariff(self._base_url, job.model)
        if tariff is None:
            raise ConfigError(
                f"{setting_name('max_cost_usd')} needs the price of every model, and none is known for {job.model!r}: "
                "set input and output "
                f'(USD for a million tokens) under [prices."{job.model}"] in the settings file'
            )
        bounds = token_bounds(size, job, protocol_for(job.path), self._counter.for_model(job.model), self._ratios)
        worst = worst_case_pico(tariff, bounds)
        if worst is None:
            return Failure(code="unknown_cost", message=why_unknown(bounds))
        return ceil(worst * self._factor)

    def fit(self, worst_pico: int) -> Fit:
        return self.budget.fit(worst_pico)

    def reserve(self, batch: OpenBatch) -> None:
        """Before a batch is submitted, and at the start of a run for those that are open."""
        self._reserved[batch.name] = self.budget.reserve(batch.worst_pico or 0)

    def release(self, batch: OpenBatch) -> None:
        """The batch is collected, and each of its jobs is accounted for; or it was not created."""
        reserved = self._reserved.pop(batch.name, None)
        if reserved is not None:
            reserved.release()

    def spend(self, cost_usd: float | None, worst_pico: int | None) -> None:
        """A job of a batch that is being collected has cost so much. None: not known, and counts at its worst case."""
        if cost_usd is not None:
            self.budget.spend(pico_usd(cost_usd))
        else:
            self._sink.add_spent(worst_pico or 0)
            self.budget.spend(worst_pico or 0)
