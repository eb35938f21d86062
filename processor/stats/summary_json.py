"""The summary of a run as JSON, for ``--summary-json``."""

from __future__ import annotations

from processor.core.events import SkipReason
from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON
from processor.stats.histogram import Histogram
from processor.stats.reply_stats import TokenSums
from processor.stats.run_stats import RunStats

SKIPPED_KEYS: dict[SkipReason, str] = {
    "done": "done",
    "changed": "changed",
    "other_model": "other_model",
    "other_endpoint": "other_endpoint",
    "other_schema": "other_schema",
    "failed_permanently": "own_fault",
}
"""Key of each skip reason under ``skipped``: ``own_fault`` is the name that result rows use, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryContext:
    """What a summary says that no event carries."""

    results: str
    """Path of the results file; ``-`` is stdout."""
    errors: str | None
    """Path of the errors file; None where there is none."""
    rows_without_job: int = 0
    """Jobs with a row that are not in the job file."""
    command: str | None
    """The command line that continues this run; None where repeating it would start from the beginning."""


def summary_json(stats: RunStats, context: SummaryContext) -> JSON:
    """Counts are of this run, unless their name says otherwise. Durations are in seconds."""
    replies = stats.replies
    return {
        "jobs": stats.jobs,
        "simulated": stats.simulated,
        "done": stats.done,
        "done_before": stats.done_earlier,
        "failed": {
            code: {"count": failure.count, "example": failure.example, "message": failure.message}
            for code, failure in stats.failures_by_code.items()
        },
        "unsettled": stats.remaining,
        "skipped": {SKIPPED_KEYS[reason]: count for reason, count in stats.skipped.items()},
        "changed_examples": stats.skipped_examples.get("changed", []),
        "skipped_examples": {SKIPPED_KEYS[reason]: names for reason, names in stats.skipped_examples.items()},
        "rows_without_job": context.rows_without_job,
        "stopped": stats.stop_reason,
        "elapsed_s": round(stats.elapsed_s(stats.last_event_at), 3),
        "attempts": stats.attempts,
        "endpoints": {
            name: {"attempts": attempts, "replies": stats.replies_by_endpoint[name]}
            for name, attempts in stats.attempts_by_endpoint.items()
        },
        "workers": [
            {
                **{"worker": ended.worker, "node": ended.node, "requests": ended.requests},
                **{"lost_requests": ended.lost_requests, "reason": ended.reason},
            }
            for ended in stats.workers
        ],
        "retried": dict(stats.retried),
        "validation": {"valid": replies.checked, "asked_again": stats.asked_again},
        "maybe_billed": stats.possibly_billed,
        "tokens": {
            "used": _tokens_json(replies.used),
            "reported": _tokens_json(replies.reported),
            "computed_beside_reported": _tokens_json(replies.computed),
        },
        "cost_usd": replies.cost_usd,
        "unconfirmed_cost_usd": stats.costs.unconfirmed_usd,
        "costs": stats.costs.as_json(),
        "budget": _budget_json(stats),
        "first_token_s": _quantiles_json(replies.first_token),
        "total_s": _quantiles_json(replies.total),
        "finish_reasons": dict(replies.finish_reasons),
        "unconfirmed": replies.unconfirmed,
        "bound_by": {
            bottleneck or "nothing": share
            for bottleneck, share in stats.throughput.bottleneck_shares(stats.last_event_at)
        },
        "results": context.results,
        "errors": context.errors,
        "command": context.command,
    }


def _budget_json(stats: RunStats) -> JSON | None:
    """Of all runs on the output; None without a budget."""
    budget = stats.budget()
    return None if budget is None else {"spent_usd": budget[0], "max_cost_usd": budget[1]}


def _tokens_json(tokens: TokenSums) -> JSON:
    return {"replies": tokens.replies, "prompt": tokens.prompt, "completion": tokens.completion}


def _quantiles_json(histogram: Histogram) -> JSON:
    return {"median": histogram.quantile(0.5), "p95": histogram.quantile(0.95)}
