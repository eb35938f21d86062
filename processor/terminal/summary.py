"""What the run has come to: for a person as rows, for a script as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from processor.core.events import SkipReason
from processor.core.models import JSON
from processor.core.text import one_line
from processor.stats.histogram import Histogram
from processor.stats.reply_stats import Replies, Tokens
from processor.stats.run_stats import RunStats
from processor.terminal.formatting import MAX_LINE_CHARS, duration, listed, percent, plural
from processor.terminal.label_table import BLANK, LabelRow
from processor.terminal.status_line import BOUND_WORDS

NEEDS_RETRY_FLAG = frozenset({"rejected", "refused", "too_large", "reply_too_large"})
"""Failures that stand until the job is changed. A line that is no job is looked at anew by every run."""


SKIPPED_KEYS: dict[SkipReason, str] = {"done": "done", "changed": "changed", "failed_permanently": "own_fault"}
"""Keys of the JSON summary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryContext:
    """What the events do not tell."""

    results: str
    errors: str | None
    """The errors file, where there is one now."""
    command: str | None
    """The command of this run, to be given again; None where that would start from nothing."""


def rows(tally: RunStats, closing: SummaryContext) -> list[LabelRow]:
    """Only what there is to say: a run without failures has no row for them."""
    return [
        BLANK,
        _done(tally),
        *_failed(tally),
        *_not_done(tally),
        *_attempts(tally),
        *_replies(tally.replies, simulated=tally.simulated),
        *_bound(tally),
        *_files(closing),
        *_go_on(tally, closing),
    ]


def summary_json(tally: RunStats, closing: SummaryContext) -> JSON:
    """The same for scripts. Counts are of this run unless they say otherwise; durations are in seconds."""
    replies = tally.replies
    return {
        "jobs": tally.jobs,
        "simulated": tally.simulated,
        "done": tally.done,
        "done_before": tally.done_before,
        "failed": {
            code: {"count": failed.count, "example": failed.example, "message": failed.message}
            for code, failed in tally.failed.items()
        },
        "unsettled": tally.unsettled,
        "skipped": {SKIPPED_KEYS[reason]: count for reason, count in tally.skipped.items()},
        "changed_examples": tally.changed,
        "stopped": tally.stopping,
        "elapsed_s": tally.elapsed_s(tally.last_at),
        "attempts": tally.attempts,
        "retried": dict(tally.retried),
        "maybe_billed": tally.maybe_billed,
        "tokens": {
            "used": _tokens_json(replies.used),
            "reported": _tokens_json(replies.reported),
            "computed_beside_reported": _tokens_json(replies.computed),
        },
        "cost_usd": replies.cost_usd,
        "first_token_s": _quantiles_json(replies.first_token),
        "total_s": _quantiles_json(replies.total),
        "finish_reasons": dict(replies.finish_reasons),
        "bound_by": {bound or "nothing": share for bound, share in tally.pace.bound_shares(tally.last_at)},
        "results": closing.results,
        "errors": closing.errors,
        "command": closing.command,
    }


def _tokens_json(tokens: Tokens) -> JSON:
    return {"replies": tokens.replies, "prompt": tokens.prompt, "completion": tokens.completion}


def _quantiles_json(histogram: Histogram) -> JSON:
    return {"median": histogram.quantile(0.5), "p95": histogram.quantile(0.95)}


def _done(tally: RunStats) -> LabelRow:
    of = f" of {plural(tally.jobs, 'job')}" if tally.jobs is not None else ""
    complete = tally.unsettled == 0 and not tally.failures
    return LabelRow("done", f"{tally.done + tally.done_before:,}{of}{_when(tally)}", "good" if complete else "")


def _when(tally: RunStats) -> str:
    before = f", {tally.done_before:,} before" if tally.done_before else ""
    if not tally.done:
        return f": none in this run{before}"
    took = f"in {duration(tally.elapsed_s(tally.last_at))}"
    return f": {tally.done:,} {took}{before}" if before else f" {took}"


def _failed(tally: RunStats) -> Iterator[LabelRow]:
    label = "failed"
    for code, failed in sorted(tally.failed.items(), key=lambda item: -item[1].count):
        first = f"e.g. {one_line(failed.example, 60)}" if failed.count > 1 else one_line(failed.example, 60)
        yield LabelRow(label, f"{failed.count:,} {code}, {first}: {one_line(failed.message, MAX_LINE_CHARS)}", "bad")
        label = ""
    if tally.skipped["failed_permanently"]:
        jobs = plural(tally.skipped["failed_permanently"], "job")
        yield LabelRow(label, f"{jobs} before, by their own fault: not sent again", "bad")


def _not_done(tally: RunStats) -> Iterator[LabelRow]:
    if tally.unsettled or tally.stopping:
        jobs = plural(tally.unsettled, "job") + " to go" if tally.unsettled else "before the end"
        why = f": {one_line(tally.stopping, MAX_LINE_CHARS)}" if tally.stopping else ""
        yield LabelRow("stopped", f"{jobs}{why}", "warning")
    if changed := tally.skipped["changed"]:
        names = [one_line(name, 40) for name in tally.changed] + ["…"] * (changed > len(tally.changed))
        kept = f"since the reply came, kept as answered: {', '.join(names)} (--changed resend asks anew)"
        yield LabelRow("changed", f"{plural(changed, 'job')} {kept}", "warning")


def _attempts(tally: RunStats) -> Iterator[LabelRow]:
    if tally.attempts:
        again = f", {tally.retried.total():,} failed and tried again: {_counts(tally.retried)}" if tally.retried else ""
        yield LabelRow("attempts", f"{tally.attempts:,}{again}")
    if tally.maybe_billed and not tally.simulated:
        yield LabelRow(
            "maybe billed", f"{plural(tally.maybe_billed, 'attempt')} that broke off without a reply", "warning"
        )


def _replies(replies: Replies, *, simulated: bool) -> Iterator[LabelRow]:
    if replies.used.replies:
        # The simulator's tokens are pieces of text of its own: there is nothing to compare them with.
        source = "simulated: nobody was billed" if simulated else _source(replies)
        yield LabelRow("tokens", f"{replies.used.prompt:,} prompt + {replies.used.completion:,} completion, {source}")
    if replies.cost_usd is not None:
        yield LabelRow("cost", f"${replies.cost_usd:,.2f}")
    for label, histogram in (("first token", replies.first_token), ("whole reply", replies.total)):
        median, p95 = histogram.quantile(0.5), histogram.quantile(0.95)
        if median is not None and p95 is not None:
            yield LabelRow(label, f"{duration(median)} median, {duration(p95)} p95")
    if replies.cut_short:
        cut = plural(replies.cut_short, "reply", "replies")
        yield LabelRow("cut short", f"{cut} ended by the token limit (finish reason length)", "warning")


def _source(replies: Replies) -> str:
    if not replies.reported.replies:
        return "computed with tiktoken"
    computed = replies.computed.prompt + replies.computed.completion
    reported = replies.reported.prompt + replies.reported.completion
    compared = f"tiktoken counts {_difference(computed, reported)}"
    if replies.reported.replies == replies.used.replies:
        return f"as reported ({compared})"
    return f"as reported for {plural(replies.reported.replies, 'reply', 'replies')} ({compared}), else computed"


def _difference(computed: int, reported: int) -> str:
    if computed == reported:
        return "the same"
    off = abs(computed - reported) / max(reported, 1)
    return f"{max(off, 0.001):.1%} {'more' if computed > reported else 'less'}"


def _bound(tally: RunStats) -> Iterator[LabelRow]:
    shares = tally.pace.bound_shares(tally.last_at)
    if shares:
        yield LabelRow("bound by", listed([f"{BOUND_WORDS[bound]} {percent(share)}" for bound, share in shares]))


def _files(closing: SummaryContext) -> Iterator[LabelRow]:
    yield LabelRow("results", "stdout" if closing.results == "-" else closing.results)
    if closing.errors is not None:
        yield LabelRow("errors", closing.errors)


def _go_on(tally: RunStats, closing: SummaryContext) -> Iterator[LabelRow]:
    """The same command again, where that would do something."""
    if closing.command is None:
        return
    permanent = tally.own_fault + tally.skipped["failed_permanently"]
    if tally.unsettled or tally.stopping or tally.failures > permanent:
        yield LabelRow("to go on", closing.command, "command")
    elif permanent:
        only_if_asked = tally.skipped["failed_permanently"] or not NEEDS_RETRY_FLAG.isdisjoint(tally.failed)
        flag = " --retry-failed" if only_if_asked and "--retry-failed" not in closing.command else ""
        yield LabelRow("once fixed", closing.command + flag, "command")


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
