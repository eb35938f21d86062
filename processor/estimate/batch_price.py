"""What the jobs would cost in batches, and which of them a batch does not take."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from processor.core.fast_dataclass import dataclass
from processor.estimate.job_costs import CostTotals
from processor.estimate.job_counts import TokenTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPrice:
    """The part of the jobs that the provider's batch API takes."""

    factor: float
    """What is charged in a batch, as a share of the price otherwise."""
    jobs: int
    not_taken: int
    """Jobs of other API paths."""
    costs: CostTotals
    """Of the jobs that it takes, without the factor."""

    def in_batch(self, pico: int | None) -> int | None:
        """An amount of ``costs`` with the factor; None stays None."""
        return None if pico is None else round(pico * self.factor)


def batch_price(
    models: Mapping[tuple[str, str], TokenTotals], paths: Collection[str], factor: float | None
) -> BatchPrice | None:
    """``models``: the totals by model and API path. None where no job is taken, or the factor is not known."""
    costs, jobs, not_taken = CostTotals(), 0, 0
    for (_, path), totals in models.items():
        if path in paths:
            jobs += totals.jobs
            costs.add(totals.costs)
        else:
            not_taken += totals.jobs
    if factor is None or not jobs:
        return None
    return BatchPrice(factor=factor, jobs=jobs, not_taken=not_taken, costs=costs)
