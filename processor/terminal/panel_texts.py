"""The sentences and cells of the panel, shared by its two forms."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from processor.core.text import one_line
from processor.terminal.charts import Characters, bar
from processor.terminal.formatting import abbreviated, clock_time, duration, percent, plural
from processor.terminal.panel_state import (
    EndpointShownLive,
    Money,
    PanelState,
    Quantiles,
    RepliesShown,
    Situation,
    UseShown,
)
from processor.terminal.status_line import BOTTLENECK_LABELS
from processor.terminal.styled_line import BLANK_LINE, Line, Span, line_width, spread, styled

NONE = "none"
UNKNOWN = "unknown"
MIN_LIMIT_WAIT_SHOWN_S = 5.0
"""A shorter wait for a limit is usual."""


# ---------------------------------------------------------------- the head: what, how far, until when


def title_line(state: PanelState, columns: int, *, with_key: bool) -> Line:
    context = state.context
    key = f", key from {context.key_from}" if with_key and context.key_from else ""
    verb = "ran" if state.situation.phase == "over" else "running"
    left = styled(Span(context.source, "bold"), f" to {context.destination}{key}")
    return spread(left, styled(f"{verb} {duration(state.elapsed_s)}"), columns)


def bar_line(state: PanelState, columns: int, characters: Characters) -> Line:
    if state.share is None:
        return styled(Span(f"{state.done} done", "bold"), Span(", the number of jobs is not known", "dim"))
    right = styled("  ", Span(state.done, "bold"), f"  {percent(state.share):>4}")
    full, empty = bar(state.share, max(columns - line_width(right), 0), characters)
    return (Span(full, "bar"), Span(empty, "dim"), *right)


def head_lines(state: PanelState, columns: int) -> list[Line]:
    """When it ends, or what is in the way; and the money."""
    first, second = _situation_lines(state)
    money = styled(money_text(state.money)) if state.money.spent is not None or state.money.budget else BLANK_LINE
    if second:
        return [spread(first, BLANK_LINE, columns), spread(second, money, columns)]
    return [spread(first, money, columns)]


def _situation_lines(state: PanelState) -> tuple[Line, Line]:
    situation = state.situation
    match situation.phase:
        case "over":
            return _over(state), BLANK_LINE
        case "stopping":
            return _stopping(situation)
        case "outage":
            return _outage(situation, state.time)
        case "cool_down":
            wait = duration(situation.next_in_s or 0.0)
            first = styled(Span("COOL-DOWN", "warning"), f" as the server asked: the next request in {wait}")
            return first, styled(ends_text(situation, state.time))
        case "back_off":
            wait = duration(situation.next_in_s or 0.0)
            first = styled(Span("BACK-OFF", "warning"), f" before further attempts: the next request in {wait}")
            return first, styled(ends_text(situation, state.time))
        case "starting":
            return styled(_starting(situation, state.elapsed_s)), BLANK_LINE
        case "last_replies":
            return styled(_last_replies(situation)), BLANK_LINE
    return styled(ends_text(situation, state.time) + _waiting(situation)), BLANK_LINE


def _waiting(situation: Situation) -> str:
    if situation.bottleneck == "input":
        return ", waiting for jobs"
    next_in_s = situation.next_in_s or 0.0
    return f", the next request in {duration(next_in_s)}" if next_in_s >= MIN_LIMIT_WAIT_SHOWN_S else ""


def _over(state: PanelState) -> Line:
    at = f"{state.time:%H:%M}"
    reason = state.situation.stop_reason
    return styled(Span(f"stopped at {at}: {one_line(reason)}", "warning") if reason else f"ended at {at}")


def _stopping(situation: Situation) -> tuple[Line, Line]:
    first = styled(Span("STOPPING", "warning"), f": {one_line(situation.stop_reason or '')}")
    if not situation.in_flight or situation.grace_left_s is None:
        return first, BLANK_LINE
    requests = plural(situation.in_flight, "request")
    return first, styled(f"waiting at most {duration(situation.grace_left_s)} for {requests}; Ctrl-C aborts them")


def _outage(situation: Situation, now: datetime) -> tuple[Line, Line]:
    outage = situation.outage
    if outage is None:
        return styled(Span("OUTAGE", "bad")), BLANK_LINE
    probe = f"Next probe in {duration(situation.next_in_s)}. " if situation.next_in_s is not None else ""
    since = f" since {clock_time(outage.since, now)} ({duration(outage.lasts_s)}). {probe}{one_line(outage.message)}"
    until = f" until {clock_time(outage.stops_at, now)}, then stops" if outage.stops_at else ""
    return styled(Span("OUTAGE", "bad"), since), styled(f"waits{until}; no job is blamed")


def _starting(situation: Situation, elapsed_s: float) -> str:
    if not situation.in_flight:
        return "starting"
    return f"waiting for the first reply, for {duration(elapsed_s)}"


def _last_replies(situation: Situation) -> str:
    oldest = f", the oldest for {duration(situation.oldest_s)}" if situation.oldest_s is not None else ""
    return f"waiting for the last {plural(situation.in_flight, 'reply', 'replies')}{oldest}"


def ends_text(situation: Situation, now: datetime) -> str:
    if situation.ends_at is None or situation.time_left_s is None:
        return "the end cannot be told yet"
    return f"ends at about {clock_time(situation.ends_at, now)}, {duration(situation.time_left_s)} left"


def money_text(money: Money) -> str:
    spent = UNKNOWN if money.spent is None else f"{money.spent:,.2f}"
    without = f" without {plural(money.unpriced, 'reply', 'replies')}" if money.unpriced and money.spent else ""
    expected = None if money.expected is None else f"about {money.expected:,.2f}"
    if money.budget is not None:
        return f"{spent} of {money.budget:,.2f} USD budget{without}" + (f", {expected} in all" if expected else "")
    if without or expected is None:
        return f"{spent} USD{without}"
    return f"{spent} of {expected} USD"


# ---------------------------------------------------------------- cells and rows


def used_text(use: UseShown) -> str:
    return abbreviated(use.used)


def limit_text(use: UseShown, unit: str) -> str:
    return NONE if use.limit is None else f"{abbreviated(use.limit)} {unit}".rstrip()


def share_text(use: UseShown) -> str:
    """At a limit a counter may show a little more than all of it: the window is rounded to a second."""
    return "" if use.share is None else percent(min(use.share, 1.0))


def first_token_text(replies: RepliesShown) -> str:
    if replies.total.median_s is not None and replies.first_token.median_s is None:
        return "not known, as no reply was streamed"
    return latency_text(replies.first_token)


def latency_text(quantiles: Quantiles) -> str:
    if quantiles.median_s is None or quantiles.p95_s is None:
        return NONE + " yet"
    return f"{duration(quantiles.median_s)} median, {duration(quantiles.p95_s)} p95"


def tokens_text(state: PanelState) -> str:
    return (
        f"{abbreviated(state.replies.prompt_tokens)} prompt + {abbreviated(state.replies.completion_tokens)} completion"
    )


def counts_text(counts: Iterable[tuple[str, int]]) -> str:
    """``118: 74 rate_limited, 44 stream_truncated``."""
    counts = list(counts)
    if not counts:
        return NONE
    parts = ", ".join(f"{count:,} {one_line(name, 40)}" for name, count in counts)
    return f"{sum(count for _, count in counts):,}: {parts}"


def endpoint_line(endpoint: EndpointShownLive, now: datetime, name_columns: int) -> Line:
    use = endpoint.use
    counts = f"{use.requests:>9,} sent {use.in_flight:>6,} in flight  "
    return styled(f"{one_line(use.name, name_columns):{name_columns}}", counts, _endpoint_state(endpoint, now))


def _endpoint_state(endpoint: EndpointShownLive, now: datetime) -> Span:
    if endpoint.down_since is not None:
        since = clock_time(endpoint.down_since, now)
        return Span(f"down since {since}, next probe in {duration(endpoint.probe_in_s)}", "bad")
    if endpoint.use.stopped is not None:
        return Span(f"stopped: {one_line(endpoint.use.stopped)}", "warning")
    return Span("answers" if endpoint.use.requests else "not used yet", "good" if endpoint.use.requests else "dim")


def bound_text(situation: Situation) -> str:
    return f"bound by {BOTTLENECK_LABELS[situation.bottleneck]} ({percent(situation.bottleneck_share)} of the time)"
