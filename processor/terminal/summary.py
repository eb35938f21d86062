"""The summary at the end of a run, as labelled rows. ``stats.summary_json`` is the same for scripts."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from math import ceil, floor, log10

from processor.core.events import SkipReason
from processor.core.money import dollars, in_dollars, pico_usd
from processor.core.text import one_line, setting_name
from processor.stats.reply_stats import ReplyStats
from processor.stats.run_stats import RunStats
from processor.stats.summary_json import SummaryContext
from processor.terminal.formatting import MAX_LINE_CHARS, duration, joined, percent, plural
from processor.terminal.label_table import BLANK, LabelRow
from processor.terminal.status_line import BOTTLENECK_LABELS

NEEDS_RETRY_FLAG = frozenset({"rejected", "refused", "too_large", "reply_too_large", "invalid_output"})
"""Codes of failures that only ``--retry-failed`` sends again. Lines that are no jobs are read again by every run."""

MAX_COSTS = 6
"""Models and endpoints whose cost is shown."""

MAX_REASON_CHARS = 400
"""Of why a run stopped: the provider's words, and the jobs that met them."""


def summary_rows(stats: RunStats, context: SummaryContext) -> list[LabelRow]:
    """Only rows that have something to say: a run without failures has no row for them."""
    return [
        BLANK,
        _done(stats),
        *_failed(stats),
        *_stopped(stats),
        *_changed(stats),
        *_rows_without_job(context),
        *_attempts(stats),
        *_validation(stats),
        *_tokens(stats.replies, simulated=stats.simulated),
        *cost_rows(stats),
        *_durations(stats.replies),
        *_cut_short(stats.replies),
        *_unconfirmed(stats.replies, context),
        *_bottlenecks(stats),
        *_files(context),
        *_next_command(stats, context),
    ]


def _done(stats: RunStats) -> LabelRow:
    of_all = f" of {plural(stats.jobs, 'job')}" if stats.jobs is not None else ""
    is_complete = stats.remaining == 0 and not stats.failed
    text = f"{stats.done + stats.done_earlier:,}{of_all}{_when(stats)}"
    return LabelRow("done", text, "good" if is_complete else "")


def _when(stats: RunStats) -> str:
    earlier = f", {stats.done_earlier:,} in earlier runs" if stats.done_earlier else ""
    if not stats.done:
        return f" (none in this run{earlier})"
    elapsed = duration(stats.elapsed_s(stats.last_event_at))
    return f" ({stats.done:,} in {elapsed}{earlier})" if earlier else f" in {elapsed}"


def _failed(stats: RunStats) -> Iterator[LabelRow]:
    label = "failed"
    by_count = sorted(stats.failures_by_code.items(), key=lambda item: -item[1].count)
    for code, failure in by_count:
        example = one_line(failure.example, max_chars=60)
        of_many = "e.g. " if failure.count > 1 else ""
        job = "" if f"{example}:" in failure.message else f"{example}: "  # of a line without an id the message has it
        yield LabelRow(
            label, f"{failure.count:,} {code}, {of_many}{job}{one_line(failure.message, MAX_LINE_CHARS)}", "bad"
        )
        label = ""
    if earlier := stats.skipped["failed_permanently"]:
        text = (
            f"{plural(earlier, 'job')} failed permanently in an earlier run; use "
            f"{setting_name('retry_failed', True)} to send again"
        )
        yield LabelRow(label, text, "bad")


def _stopped(stats: RunStats) -> Iterator[LabelRow]:
    if stats.remaining or stats.stop_reason:
        jobs = f"{plural(stats.remaining, 'job')} remaining" if stats.remaining else "before the end"
        reason = f": {one_line(stats.stop_reason, MAX_REASON_CHARS)}" if stats.stop_reason else ""
        yield LabelRow("stopped", f"{jobs}{reason}", "warning")


ANSWERED_OTHERWISE_TEXTS: Mapping[SkipReason, str] = {
    "changed": "edited since the reply came",
    "other_model": "answered by another model",
    "other_endpoint": "answered at another address",
    "other_schema": "checked against another schema, or none",
}


def _changed(stats: RunStats) -> Iterator[LabelRow]:
    label = "changed"
    for reason, how in ANSWERED_OTHERWISE_TEXTS.items():
        if not (count := stats.skipped[reason]):
            continue
        examples = [one_line(name, max_chars=40) for name in stats.skipped_examples.get(reason, ())]
        if count > len(examples):
            examples.append("…")
        text = f"{plural(count, 'job')} {how}, reply kept: {', '.join(examples)}"
        yield LabelRow(label, f"{text} (use {setting_name('changed', 'resend')} to send again)", "warning")
        label = ""


def _rows_without_job(context: SummaryContext) -> Iterator[LabelRow]:
    if count := context.rows_without_job:
        row = "1 row of a job that is" if count == 1 else f"{count:,} rows of jobs that are"
        yield LabelRow("not in file", f"{row} not in the job file; kept")


def _attempts(stats: RunStats) -> Iterator[LabelRow]:
    if stats.attempts:
        retried = ""
        if stats.retried:
            retried = f", {stats.retried.total():,} failed and retried: {_by_count(stats.retried)}"
        yield LabelRow("attempts", f"{stats.attempts:,}{retried}")
    if len(stats.attempts_by_endpoint) > 1:
        shares = (
            f"{one_line(name, 40)} {plural(stats.replies_by_endpoint[name], 'reply', 'replies')}"
            f" of {plural(attempts, 'attempt')}"
            for name, attempts in stats.attempts_by_endpoint.items()
        )
        yield LabelRow("endpoints", ", ".join(shares))
    yield from _workers(stats)
    if stats.possibly_billed and not stats.simulated:
        text = f"{plural(stats.possibly_billed, 'attempt')} sent, but ended without a reply"
        yield LabelRow("possibly billed", text, "warning")


def _workers(stats: RunStats) -> Iterator[LabelRow]:
    if not stats.workers:
        return
    lost = [ended for ended in stats.workers if ended.reason is not None]
    counts = [ended.requests for ended in stats.workers if ended.reason is None]
    text = f"{len(counts):,}"
    if counts:
        text += f", with {_range(min(counts), max(counts))} requests each"
    if lost:
        in_flight = plural(sum(ended.lost_requests for ended in lost), "request")
        text += f"; {len(lost):,} lost, with {in_flight} in flight, which were sent again"
    yield LabelRow("workers", text, "warning" if lost else "")


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _validation(stats: RunStats) -> Iterator[LabelRow]:
    if stats.replies.checked or stats.asked_again:
        replies = plural(stats.asked_again, "reply", "replies")
        again = f"; {replies} not valid, asked again" if stats.asked_again else ""
        yield LabelRow("validation", f"{stats.replies.checked:,} valid{again}")


def _tokens(replies: ReplyStats, *, simulated: bool) -> Iterator[LabelRow]:
    if replies.used.replies:
        # The simulator does not count with tiktoken: comparing the two counts would say nothing.
        source = " (simulated, not billed)" if simulated else f", {_token_source(replies)}"
        yield LabelRow("tokens", f"{replies.used.prompt:,} prompt + {replies.used.completion:,} completion{source}")


def cost_rows(stats: RunStats) -> Iterator[LabelRow]:
    costs, replies = stats.costs, stats.replies
    if replies.cost_usd is not None:
        unknown = replies.count - replies.priced
        without = f", without {plural(unknown, 'reply', 'replies')} of unknown cost" if unknown > 0 else ""
        yield LabelRow("cost", f"{dollars(replies.cost_usd)}{without}")
        if len(costs.places) > 1:
            for place in sorted(costs.places, key=lambda one: -costs.known_pico[one])[:MAX_COSTS]:
                yield LabelRow("", _cost_of(stats, place))
    if costs.unconfirmed_usd is not None:
        yield LabelRow("broke off", f"at most {dollars(costs.unconfirmed_usd)} more for requests without a reply")
    if (budget := stats.budget()) is not None:
        spent, limit = in_dollars(pico_usd(budget[0]), pico_usd(budget[1]))
        yield LabelRow("budget", f"{spent} of {limit} USD spent by all runs on these results")


def _cost_of(stats: RunStats, place: tuple[str, str]) -> str:
    cost_usd = stats.costs.cost_usd(place)
    endpoint = f" at {one_line(place[1], 40)}" if len(stats.attempts_by_endpoint) > 1 else ""
    return f"{'unknown' if cost_usd is None else dollars(cost_usd)} {one_line(place[0], 40)}{endpoint}"


def _token_source(replies: ReplyStats) -> str:
    if not replies.reported.replies:
        return "computed with tiktoken"
    computed = replies.computed.prompt + replies.computed.completion
    reported = replies.reported.prompt + replies.reported.completion
    comparison = f"tiktoken counts {_difference(computed, reported)}"
    if replies.reported.replies == replies.used.replies:
        return f"reported by the server ({comparison})"
    count = plural(replies.reported.replies, "reply", "replies")
    return f"reported by the server for {count} ({comparison}), else computed"


def _difference(computed: int, reported: int) -> str:
    if computed == reported:
        return "the same"
    share = abs(computed - reported) / max(reported, 1)
    return f"{max(share, 0.001):.1%} {'more' if computed > reported else 'less'}"


def _durations(replies: ReplyStats) -> Iterator[LabelRow]:
    for label, histogram in (("first token", replies.first_token), ("whole reply", replies.total)):
        median, p95 = histogram.quantile(0.5), histogram.quantile(0.95)
        if median is not None and p95 is not None:
            yield LabelRow(label, f"{duration(median)} median, {duration(p95)} p95")


def _cut_short(replies: ReplyStats) -> Iterator[LabelRow]:
    if count := replies.cut_short:
        text = f"{plural(count, 'reply', 'replies')} ended by the token limit"
        yield LabelRow("cut short", text, "warning")


def _unconfirmed(replies: ReplyStats, context: SummaryContext) -> Iterator[LabelRow]:
    if count := replies.unconfirmed:
        text = f"{plural(count, 'reply', 'replies')} ended without a known finish reason"
        yield LabelRow("unconfirmed", text, "warning")
        if context.results != "-":
            yield LabelRow("", f"jq -r 'select(.complete).custom_id' {shlex.quote(context.results)}", "command")


def _bottlenecks(stats: RunStats) -> Iterator[LabelRow]:
    shares = stats.throughput.bottleneck_shares(stats.last_event_at)
    if shares:
        text = joined([f"{BOTTLENECK_LABELS[bottleneck]} {percent(share)}" for bottleneck, share in shares])
        yield LabelRow("limited by", text)


def _files(context: SummaryContext) -> Iterator[LabelRow]:
    yield LabelRow("results", "stdout" if context.results == "-" else context.results)
    if context.errors is not None:
        yield LabelRow("errors", context.errors)


def _next_command(stats: RunStats, context: SummaryContext) -> Iterator[LabelRow]:
    """The same command again, where it would send something."""
    if context.command is None:
        return
    permanent = stats.permanent_failures + stats.skipped["failed_permanently"]
    if stats.remaining or stats.stop_reason or stats.failed > permanent:
        yield from _resume_rows(stats, context.command)
    elif permanent:
        needs_flag = stats.skipped["failed_permanently"] or not NEEDS_RETRY_FLAG.isdisjoint(stats.failures_by_code)
        flag = " --retry-failed" if needs_flag and "--retry-failed" not in context.command else ""
        yield LabelRow("once fixed", context.command + flag, "command")


def _resume_rows(stats: RunStats, command: str) -> Iterator[LabelRow]:
    """The command that goes on: with a larger budget where this one is spent, since the same would send nothing."""
    least_usd = stats.needed_budget_usd()
    if least_usd is None:
        yield LabelRow("to resume", command, "command")
        return
    replies = stats.replies
    rest_usd = stats.remaining * (replies.cost_usd or 0.0) / replies.priced if stats.remaining and replies.priced else 0
    amount = _rounded_up(least_usd + rest_usd)  # the last job, too, is sent only if the most that it can cost fits
    yield LabelRow("to resume", with_flag(command, "--max-cost", amount), "command")
    all_jobs = "about what all jobs need, if the others cost as much as those of this run"
    yield LabelRow("", f"this budget is {all_jobs if rest_usd else 'the least with which another job is sent'}")


def _rounded_up(usd: float) -> str:
    """To two digits that are not zeros, and to whole cents beyond."""
    digits = max(2, 1 - floor(log10(usd)))
    return f"{ceil(round(usd * 10**digits, 6)) / 10**digits:.{digits}f}"


def with_flag(command: str, flag: str, value: str) -> str:
    """Return the command with another value of a flag, which it need not have."""
    words = shlex.split(command)
    for at, word in enumerate(words):
        if word == flag:
            return shlex.join([*words[: at + 1], value, *words[at + 2 :]])
        if word.startswith(f"{flag}="):
            return shlex.join([*words[:at], f"{flag}={value}", *words[at + 1 :]])
    return shlex.join([*words, flag, value])


def _by_count(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {label}" for label, count in counts.most_common())
