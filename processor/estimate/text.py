"""The result of an estimate as text."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from datetime import datetime

from processor.core.events import SkipReason
from processor.core.money import dollars, in_dollars, pico_usd, usd
from processor.core.text import one_line
from processor.estimate.batch_price import BatchPrice
from processor.estimate.duration import Bound
from processor.estimate.estimate import Estimate
from processor.estimate.job_costs import BudgetFit, CostTotals
from processor.estimate.job_counts import TokenTotals
from processor.estimate.known_replies import MIN_REPLIES, KnownReplies
from processor.estimate.seen_limits import Counter
from processor.terminal.formatting import abbreviated, duration, plural, size
from processor.terminal.label_table import LabelRow

MAX_SHOWN_LINES = 3
MAX_SHOWN_MODELS = 20
MAX_SHOWN_BOUNDS = 6

_SKIPPED: dict[SkipReason, str] = {
    "done": "have their reply",
    "changed": "have a reply to an earlier version of the job (--changed resend sends them)",
    "other_model": "have a reply of another model (--changed resend sends them)",
    "other_endpoint": "have a reply from another address (--changed resend sends them)",
    "other_schema": "have a reply checked against another schema, or none (--changed resend sends them)",
    "failed_permanently": "failed for good (--retry-failed sends them)",
}
OWN_FLAG = "--json"
"""The flag that a run does not have."""


def estimate_rows(estimate: Estimate) -> list[LabelRow]:
    """The text above the table of models."""
    counts = estimate.counts
    rows = [LabelRow("jobs", f"{estimate.jobs}: {plural(counts.lines, 'line')}, {size(estimate.size)}")]
    rows.append(LabelRow("to send", f"{counts.all.jobs:,}"))
    rows += (
        LabelRow("not sent", f"{count:,} {_SKIPPED[reason]}, see {estimate.results}")
        for reason, count in counts.skipped.items()
    )
    label = "not valid"
    for code, found in counts.mistakes.items():
        more = ", ..." if found.count > MAX_SHOWN_LINES else ""
        lines = ", ".join(estimate.place(position) for position in found.positions[:MAX_SHOWN_LINES])
        word = "line" if found.count == 1 else "lines"
        rows.append(LabelRow(label, f"{found.count:,} {code} ({word} {lines}{more}): {found.message}", "warning"))
        label = ""
    return rows


def model_table(estimate: Estimate) -> str:
    """A line for each model, at most 80 columns wide."""
    models = sorted(estimate.counts.models.items(), key=lambda item: -item[1].jobs)
    lines = [f"{'model':24}{'jobs':>11}{'prompt':>9}{'reply':>9}{'at most':>9}{'cost, USD':>18}"]
    lines += (_model_line(model, totals) for (model, _), totals in models[:MAX_SHOWN_MODELS])
    if len(models) > MAX_SHOWN_MODELS:
        lines.append(f"... and {len(models) - MAX_SHOWN_MODELS} more")
    if len(models) > 1:
        lines.append(_model_line("all", estimate.counts.all))
    return "\n".join(lines)


def _model_line(name: str, totals: TokenTotals) -> str:
    name = name if len(name) <= 23 else name[:20] + "..."
    expected = abbreviated(totals.expected) if totals.is_expected_known else "unknown"
    at_most = "no limit" if totals.unbounded else abbreviated(totals.at_most)
    cost = _cost_range(totals.costs)
    return f"{name:24}{totals.jobs:>11,}{abbreviated(totals.prompt):>9}{expected:>9}{at_most:>9}{cost:>18}"


def _cost_range(costs: CostTotals) -> str:
    """``15.66..34.02``, as expected and at most."""
    expected, at_most = costs.known_expected_pico, costs.known_at_most_pico
    if not costs.is_priced:
        return "unknown"
    if expected is None:
        return "no limit" if at_most is None else f"..{in_dollars(at_most)[0]}"
    return f"{in_dollars(expected)[0]}.." if at_most is None else "..".join(in_dollars(expected, at_most))


def detail_rows(estimate: Estimate) -> Iterator[LabelRow]:
    """The text below the table of models."""
    counts = estimate.counts
    tokens, position = counts.largest
    yield LabelRow(
        "prompt",
        f"{_tokens(counts.prompt.quantile(0.5))} tokens median, {_tokens(counts.prompt.quantile(0.95))} p95, "
        f"{tokens:,} the largest (line {estimate.place(-position)})",
    )
    if counts.estimated:
        yield LabelRow("", f"{plural(counts.estimated, 'job')} estimated: see usage_estimated in the documentation")
    yield LabelRow("reply", _reply_text(estimate))
    if others := known_of_others(estimate.replies, (model for model, _ in counts.models)):
        yield LabelRow("", others, "warning")
    if counts.all.unbounded:
        yield LabelRow("", f"{plural(counts.all.unbounded, 'job')} without max_tokens: nothing bounds their replies")
    yield from _cost_rows(estimate)
    yield from _time_rows(estimate)


def _cost_rows(estimate: Estimate) -> Iterator[LabelRow]:
    costs = estimate.counts.all.costs
    unknown = [model for (model, _), totals in estimate.counts.models.items() if totals.costs.unknown]
    if not costs.is_priced:
        yield LabelRow("cost", f"unknown: no price is known for {_some(unknown)}")
        yield LabelRow("", f"set one under {_table(unknown[0])}")
        return
    expected, at_most = costs.known_expected_pico, costs.known_at_most_pico
    texts = [
        "expected: unknown, give --like RESULTS" if expected is None else f"{dollars(usd(expected))} expected",
        "at most: nothing bounds it" if at_most is None else f"{dollars(usd(at_most))} at most",
    ]
    yield LabelRow("cost", "; ".join(texts))
    if unknown:
        yield LabelRow("", f"without {_some(unknown)}: no price is known")
        yield LabelRow("", f"set one under {_table(unknown[0])}")
    if costs.unbounded:
        yield LabelRow("", f"{plural(costs.unbounded, 'job')} without a bound: --max-cost does not send them")
    yield LabelRow("", "at most: as --max-cost reserves it; expected: without discounts for cached prompts")
    if estimate.batch is not None and estimate.batch.costs.is_priced:
        yield from _batch_rows(estimate.batch)
    if estimate.budget is not None and estimate.max_cost_usd is not None:
        yield from _budget_rows(estimate, estimate.budget, estimate.max_cost_usd)


def _batch_rows(batch: BatchPrice) -> Iterator[LabelRow]:
    amounts = (
        (batch.in_batch(batch.costs.known_expected_pico), "expected"),
        (batch.in_batch(batch.costs.known_at_most_pico), "at most"),
    )
    texts = [f"{dollars(usd(pico))} {word}" for pico, word in amounts if pico is not None]
    yield LabelRow("in batches", ", ".join([*texts, f"{batch.factor:.0%} of the price, within 24 hours: --batch"]))
    if batch.not_taken:
        yield LabelRow("", f"without {plural(batch.not_taken, 'job')} of API paths that a batch does not take")


def _budget_rows(estimate: Estimate, fit: BudgetFit, max_cost_usd: float) -> Iterator[LabelRow]:
    if estimate.unpriced:
        text = f"nothing is sent: --max-cost needs the price of {_some(list(estimate.unpriced))}"
        yield LabelRow("budget", text, "warning")
        return
    yield LabelRow("budget", _budget_text(fit, max_cost_usd, estimate.counts.all.jobs))
    yield from _order_rows(estimate)


def _budget_text(fit: BudgetFit, max_cost_usd: float, jobs: int) -> str:
    left, limit = in_dollars(fit.left_pico, pico_usd(max_cost_usd))
    at_least = f"at least {fit.at_least:,}"
    about = at_least if fit.expected is None else f"about {fit.expected:,} jobs ({at_least})"
    stay = jobs - (fit.at_least if fit.expected is None else fit.expected)
    return f"{left} of {limit} USD left: {about}; {stay:,} stay for later"


def _order_rows(estimate: Estimate) -> Iterator[LabelRow]:
    if estimate.order != "file":
        yield LabelRow("", f"the {estimate.order} jobs first, by prompt and most output")


def _some(models: list[str]) -> str:
    return one_line(models[0], 30) + (f" and {len(models) - 1} more" if len(models) > 1 else "")


def _table(model: str) -> str:
    return f'[prices."{one_line(model, 40)}"] in config.toml'


def _tokens(value: float | None) -> str:
    return f"{value or 0:,.0f}"


def _reply_text(estimate: Estimate) -> str:
    known = estimate.replies
    if known.source is None:
        return "expected: unknown, give --like RESULTS; at most: max_tokens"
    return f"expected: as in {known.source} ({plural(known.count, 'reply', 'replies')}); at most: max_tokens"


def known_of_others(replies: KnownReplies, models: Iterable[str]) -> str | None:
    """What to say where models have no replies of their own, since lengths and times differ from model to model."""
    others = replies.of_others(dict.fromkeys(models))
    return f"fewer than {MIN_REPLIES} are of {_some(others)}: all models' replies stand for it" if others else None


def _time_rows(estimate: Estimate) -> Iterator[LabelRow]:
    bounds = estimate.duration.bounds
    seconds = estimate.duration.seconds
    if seconds is None:
        yield LabelRow("time", "unknown: give --rpm, --tpm or --concurrency, or run once: the history keeps the limits")
    else:
        yield LabelRow("time", f"{duration(seconds)}, bound by {_resource(bounds[0])}")
        yield from _bound_rows(estimate)
        end = datetime.fromtimestamp(estimate.now + seconds).astimezone()
        yield LabelRow("end", f"{end:%a %d %b %H:%M}, if started now; without refusals and outages")
    if estimate.until is not None:
        yield from _until_rows(estimate, estimate.until)


def _bound_rows(estimate: Estimate) -> Iterator[LabelRow]:
    bounds = estimate.duration.bounds
    is_one_group = len(estimate.counts.groups) == 1
    for bound in bounds[:MAX_SHOWN_BOUNDS]:
        group = "" if is_one_group else f" for {bound.limit_group}"
        yield LabelRow(f"  {_resource(bound)}", f"{duration(bound.seconds)}  {_bound_text(bound, group)}")
    if bounds[0].counter is not None:
        yield LabelRow("", counter_text(bounds[0].counter))


def _until_rows(estimate: Estimate, until: float) -> Iterator[LabelRow]:
    at = f"{datetime.fromtimestamp(until).astimezone():%a %H:%M}"
    if estimate.fit is None:
        yield LabelRow("until", f"{at}: unknown how many jobs, as the time is")
        return
    left = estimate.counts.all.jobs - estimate.fit
    yield LabelRow("until", f"{at}: about {plural(estimate.fit, 'job')}; {left:,} stay for later")
    if estimate.late_s:
        yield LabelRow("", f"nothing is sent in the last {duration(estimate.late_s)}: {_late_text(estimate)}")
    yield from _order_rows(estimate)


def _late_text(estimate: Estimate) -> str:
    return "99 of 100 replies take less" if estimate.replies.source else "no reply is known, give --like RESULTS"


def counter_text(counter: Counter) -> str:
    """How the server counts, for a person."""
    if counter.kind == "window":
        counted = f"in a window of {duration(counter.period_s)}"
    elif counter.is_small:
        counted = f"in a bucket of {duration(counter.period_s)}: sent evenly"
    else:
        counted = "in a bucket that is refilled evenly"
    return f"counted {counted}{': assumed' if counter.is_assumed else ', as an earlier run has found'}"


def _resource(bound: Bound) -> str:
    return bound.resource.replace("_", " ")


def _bound_text(bound: Bound, group: str) -> str:
    if bound.resource == "in_flight":
        reserved = "" if bound.limit_group == "*" else ": more do not fit into the limit on tokens"
        return f"{bound.limit:,.0f} at once{reserved}"
    source = ", as the server last said" if bound.is_from_history else ""
    return f"{abbreviated(bound.amount)} at {bound.limit:,.0f} a minute{group}{source}"


def start_command(estimate: Estimate) -> str:
    """The command of the run that was estimated."""
    program, command, *flags = estimate.command or ("process", "estimate", estimate.jobs)
    words = [program, *(() if command == "estimate" else (command,)), *flags]
    return shlex.join(word for word in words if word != OWN_FLAG)
