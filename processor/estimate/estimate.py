"""The result of an estimate, as values and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON, LINE_BITS
from processor.core.money import usd
from processor.estimate.batch_price import BatchPrice
from processor.estimate.duration import Bound, Duration
from processor.estimate.job_costs import BudgetFit, CostTotals
from processor.estimate.job_counts import JobCounts, TokenTotals
from processor.estimate.known_replies import KnownReplies
from processor.estimate.seen_limits import Counter
from processor.estimate.sending_order import Order
from processor.stats.summary_json import SKIPPED_KEYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run with the same flags will send, and how long it will take."""

    jobs: str
    """The name of the job file, or of several."""
    files: tuple[str, ...] = ()
    """Their names one by one."""
    size: int
    """Of the job files, in bytes, as they stand on disk."""
    results: str
    command: Sequence[str]
    counts: JobCounts
    replies: KnownReplies
    duration: Duration
    now: float
    """Unix time of the estimate."""
    until: float | None = None
    """Unix time at which the run should be over."""
    late_s: float = 0.0
    """So long before ``until`` the last request is sent."""
    order: Order = "file"
    fit: int | None = None
    """About how many jobs are done by ``until``; None without it, or where no time is known."""
    max_cost_usd: float | None = None
    budget: BudgetFit | None = None
    """None without a budget."""
    unpriced: tuple[str, ...] = ()
    """Models without a price: a run with a budget does not start before they have one."""
    batch: BatchPrice | None = None
    """None where the provider's batch API, or its price, is not known."""

    def line_and_file(self, position: int) -> tuple[int, str | None]:
        """Return the line at a position, and its file where there are several."""
        number, line = divmod(position, 1 << LINE_BITS)
        return line, self.files[number - 1] if number else None

    def place(self, position: int) -> str:
        """Return ``12``, or ``more.jsonl:12`` where there are several files."""
        line, file = self.line_and_file(position)
        return f"{line}" if file is None else f"{file}:{line}"


def estimate_json(estimate: Estimate) -> JSON:
    counts, totals = estimate.counts, estimate.counts.all
    return {
        "jobs": {
            "lines": counts.lines,
            "bytes": estimate.size,
            "to_send": totals.jobs,
            "skipped": {SKIPPED_KEYS[reason]: count for reason, count in counts.skipped.items()},
            "invalid": {
                code: {"count": found.count, **_lines_json(estimate, found.positions), "message": found.message}
                for code, found in counts.mistakes.items()
            },
        },
        "models": [
            {"model": model, "endpoint": path, **_totals_json(found)} for (model, path), found in counts.models.items()
        ],
        "all": _totals_json(totals),
        "prompt_tokens": {
            "median": counts.prompt.quantile(0.5),
            "p95": counts.prompt.quantile(0.95),
            "largest": counts.largest[0],
            **_largest_json(estimate),
            "estimated_jobs": counts.estimated,
        },
        "replies_known": estimate.replies.count if estimate.replies.source else 0,
        "replies_from": estimate.replies.source,
        "cost_usd": _cost_json(totals.costs),
        "time": {
            "seconds": estimate.duration.seconds,
            "bounds": [_bound_json(bound) for bound in estimate.duration.bounds],
        },
        "order": estimate.order,
        "fit_until": estimate.fit,
        "budget": _budget_json(estimate),
        "batch": _batch_json(estimate.batch),
    }


def _lines_json(estimate: Estimate, positions: list[int]) -> JSON:
    places = [estimate.line_and_file(position) for position in positions]
    several = {"files": [file for _, file in places]} if len(estimate.files) > 1 else {}
    return {"lines": [line for line, _ in places], **several}


def _largest_json(estimate: Estimate) -> JSON:
    line, file = estimate.line_and_file(-estimate.counts.largest[1])
    return {"largest_line": line or None, **({} if file is None else {"largest_file": file})}


def _totals_json(totals: TokenTotals) -> JSON:
    return {
        "jobs": totals.jobs,
        "prompt_tokens": totals.prompt,
        "reply_tokens_expected": round(totals.expected) if totals.is_expected_known else None,
        "reply_tokens_at_most": None if totals.unbounded else totals.at_most,
        "jobs_without_limit": totals.unbounded,
        "cost_usd": _cost_json(totals.costs),
    }


def _cost_json(costs: CostTotals) -> JSON:
    """Of the jobs whose price is known."""
    return {
        "expected": _usd(costs.known_expected_pico),
        "at_most": _usd(costs.known_at_most_pico),
        "jobs_of_unknown_price": costs.unknown,
        "jobs_without_bound": costs.unbounded,
    }


def _usd(pico: int | None) -> float | None:
    return None if pico is None else usd(pico)


def _budget_json(estimate: Estimate) -> JSON | None:
    if estimate.budget is None or estimate.max_cost_usd is None:
        return None
    return {
        "max_cost_usd": estimate.max_cost_usd,
        "left_usd": usd(estimate.budget.left_pico),
        "fit_expected": 0 if estimate.unpriced else estimate.budget.expected,
        "fit_at_least": 0 if estimate.unpriced else estimate.budget.at_least,
        "models_without_price": list(estimate.unpriced),
    }


def _batch_json(batch: BatchPrice | None) -> JSON | None:
    if batch is None:
        return None
    costs = batch.costs
    return {
        "price_factor": batch.factor,
        "jobs": batch.jobs,
        "jobs_not_taken": batch.not_taken,
        "cost_usd": {
            "expected": _usd(batch.in_batch(costs.known_expected_pico)),
            "at_most": _usd(batch.in_batch(costs.known_at_most_pico)),
        },
    }


def _bound_json(bound: Bound) -> JSON:
    return {
        "resource": bound.resource,
        "limit_group": bound.limit_group,
        "seconds": bound.seconds,
        "amount": bound.amount,
        "limit": bound.limit,
        "from_history": bound.is_from_history,
        "counter": counter_json(bound.counter),
    }


def counter_json(counter: Counter | None) -> JSON | None:
    if counter is None:
        return None
    return {"kind": counter.kind, "period_s": counter.period_s, "assumed": counter.is_assumed}
