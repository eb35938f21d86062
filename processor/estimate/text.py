"""The result of an estimate as text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime

from processor.core.events import SkipReason
from processor.estimate.duration import Bound
from processor.estimate.estimate import Estimate
from processor.estimate.job_counts import TokenTotals
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
_OWN_FLAGS = ("--like", "--until", "--json")
"""Flags that a run does not have."""


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
    lines = [f"{'model':28}{'jobs':>12}{'prompt':>9}{'reply, expected':>17}{'at most':>11}"]
    lines += (_model_line(model, totals) for (model, _), totals in models[:MAX_SHOWN_MODELS])
    if len(models) > MAX_SHOWN_MODELS:
        lines.append(f"... and {len(models) - MAX_SHOWN_MODELS} more")
    if len(models) > 1:
        lines.append(_model_line("all", estimate.counts.all))
    return "\n".join(lines)


def _model_line(name: str, totals: TokenTotals) -> str:
    name = name if len(name) <= 27 else name[:24] + "..."
    expected = abbreviated(totals.expected) if totals.is_expected_known else "unknown"
    at_most = "no limit" if totals.unbounded else abbreviated(totals.at_most)
    return f"{name:28}{totals.jobs:>12,}{abbreviated(totals.prompt):>9}{expected:>17}{at_most:>11}"


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
    if counts.all.unbounded:
        yield LabelRow("", f"{plural(counts.all.unbounded, 'job')} without max_tokens: nothing bounds their replies")
    yield from _time_rows(estimate)


def _tokens(value: float | None) -> str:
    return f"{value or 0:,.0f}"


def _reply_text(estimate: Estimate) -> str:
    known = estimate.replies
    if known.source is None:
        return "expected: unknown, give --like RESULTS; at most: max_tokens"
    return f"expected: as in {known.source} ({plural(known.count, 'reply', 'replies')}); at most: max_tokens"


def _time_rows(estimate: Estimate) -> Iterator[LabelRow]:
    bounds = estimate.duration.bounds
    seconds = estimate.duration.seconds
    if seconds is None:
        yield LabelRow("time", "unknown: give --rpm, --tpm or --concurrency, or run once: the history keeps the limits")
        return
    yield LabelRow("time", f"{duration(seconds)}, bound by {_resource(bounds[0])}")
    for bound in bounds[:MAX_SHOWN_BOUNDS]:
        yield LabelRow(f"  {_resource(bound)}", f"{duration(bound.seconds)}  {_bound_text(bound)}")
    end = datetime.fromtimestamp(estimate.now + seconds).astimezone()
    yield LabelRow("end", f"{end:%a %d %b %H:%M}, if started now; without refusals and outages")
    if estimate.fit is not None and estimate.until is not None:
        until = datetime.fromtimestamp(estimate.until).astimezone()
        left = estimate.counts.all.jobs - estimate.fit
        yield LabelRow("until", f"{until:%a %H:%M}: about {plural(estimate.fit, 'job')}; {left:,} stay for later")


def _resource(bound: Bound) -> str:
    return bound.resource.replace("_", " ")


def _bound_text(bound: Bound) -> str:
    if bound.resource == "in_flight":
        return f"{bound.limit:,.0f} at once"
    source = ", as the server last said" if bound.is_from_history else ""
    group = "" if bound.limit_group == "*" else f" for {bound.limit_group}"
    return f"{abbreviated(bound.amount)} at {bound.limit:,.0f} a minute{group}{source}"


def start_command(estimate: Estimate) -> str:
    """The command of the run that was estimated."""
    program, command, *flags = estimate.command or ("process", "estimate", estimate.jobs)
    words = [program, *(() if command == "estimate" else (command,))]
    is_value = False
    for word in flags:
        name = word.partition("=")[0]
        is_own = name in _OWN_FLAGS
        if not is_own and not is_value:
            words.append(word)
        is_value = is_own and name != "--json" and "=" not in word
    return shlex.join(words)
