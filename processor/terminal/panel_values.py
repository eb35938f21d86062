"""Gathers what the panel shows from the statistics of a run."""

from __future__ import annotations

from datetime import datetime
from math import exp, inf, log

from processor.stats.histogram import Histogram
from processor.stats.model_stats import ModelSums
from processor.stats.reply_stats import ReplyStats
from processor.stats.run_stats import RunStats
from processor.terminal import status_line
from processor.terminal.formatting import workers_text
from processor.terminal.panel_recorder import EndpointUse, PanelRecorder
from processor.terminal.panel_state import (
    EndpointShownLive,
    LargeFormValues,
    ModelShown,
    Money,
    OutageShown,
    PanelState,
    Phase,
    Quantiles,
    RepliesShown,
    RequestShown,
    Situation,
    UseShown,
)

MIN_COOL_DOWN_SHOWN_S = 1.0
MAX_REQUESTS = 8
DISTRIBUTION_GROWTH = 1.15
"""Each column of the distribution of reply times is 15 % wider than the one before."""


class Clock:
    """Turns the event loop's times into local times of day."""

    def __init__(self, now: float, unix_time: float) -> None:
        self.now = now
        self._unix_time = unix_time

    def local(self, at: float) -> datetime:
        return datetime.fromtimestamp(self._unix_time + at - self.now)


def panel_state(
    recorder: PanelRecorder, clock: Clock, *, columns: int, is_large: bool, is_over: bool = False
) -> PanelState:
    """Return the present state. ``columns``: of a chart. ``is_large``: with what only the large form shows."""
    stats, now = recorder.stats, clock.now
    throughput, bottleneck = stats.throughput, None if is_over else recorder.bottleneck
    return PanelState(
        time=clock.local(now),
        context=recorder.context,
        elapsed_s=stats.elapsed_s(stats.last_event_at if is_over else now),
        done=status_line.done_count(stats),
        share=status_line.finished_share(stats),
        situation=_situation(recorder, clock, is_over=is_over),
        money=_money(stats),
        requests=UseShown(
            used=throughput.requests_last_minute(now), limit=throughput.rpm, is_bottleneck=bottleneck == "requests"
        ),
        tokens=UseShown(
            used=throughput.tokens_last_minute(now), limit=throughput.tpm, is_bottleneck=bottleneck == "tokens"
        ),
        slots=UseShown(used=stats.in_flight, limit=recorder.concurrency, is_bottleneck=bottleneck == "in_flight"),
        recent=recorder.recent_use.columns(now, columns),
        replies=_replies(stats.replies),
        failed=_failed(stats),
        retried=tuple(stats.retried.most_common()),
        endpoints=_endpoints(recorder, clock),
        workers=workers_text(stats.in_flight_by_worker(), stats.lost_workers),
        large=_large(recorder, clock) if is_large else None,
    )


# ---------------------------------------------------------------- what the run is doing


def _situation(recorder: PanelRecorder, clock: Clock, *, is_over: bool) -> Situation:
    stats, now = recorder.stats, clock.now
    next_at = stats.next_request_at(now)
    next_in_s = None if next_at is None else max(next_at - now, 0.0)
    phase = "over" if is_over else _phase(recorder, next_in_s)
    left_s = stats.eta_s(now) if phase in ("working", "cool_down", "back_off") else None
    if left_s is not None and phase in ("cool_down", "back_off"):
        left_s += next_in_s or 0.0
    oldest = recorder.details.oldest_requests(1) if phase == "last_replies" else ()
    shares = dict(stats.throughput.bottleneck_shares(now))
    return Situation(
        phase=phase,
        time_left_s=left_s,
        ends_at=None if left_s is None else clock.local(now + left_s),
        next_in_s=next_in_s,
        outage=_outage(recorder, clock) if phase == "outage" else None,
        stop_reason=stats.stop_reason,
        grace_left_s=_grace_left_s(recorder, now),
        in_flight=stats.in_flight,
        oldest_s=now - oldest[0].started_at if oldest else None,
        bottleneck=recorder.bottleneck,
        bottleneck_share=shares.get(recorder.bottleneck, 0.0),
    )


def _phase(recorder: PanelRecorder, next_in_s: float | None) -> Phase:
    stats = recorder.stats
    bottleneck = stats.throughput.bottleneck
    if stats.stop_reason:
        return "stopping"
    if recorder.outages and (bottleneck == "outage" or len(recorder.details.endpoints()) < 2):
        return "outage"
    if bottleneck in ("cool_down", "back_off") and (next_in_s or 0.0) >= MIN_COOL_DOWN_SHOWN_S:
        return bottleneck
    if not (stats.done or stats.failed):
        return "starting"
    is_all_sent = stats.remaining is not None and stats.remaining <= stats.in_flight
    return "last_replies" if stats.in_flight and is_all_sent else "working"


def _outage(recorder: PanelRecorder, clock: Clock) -> OutageShown | None:
    outage = min(recorder.outages.values(), key=lambda each: each.at, default=None)
    if outage is None:
        return None
    max_outage_s = recorder.context.max_outage_s
    return OutageShown(
        since=clock.local(outage.at),
        lasts_s=clock.now - outage.at,
        message=outage.message,
        stops_at=None if max_outage_s is None else clock.local(outage.at + max_outage_s),
    )


def _grace_left_s(recorder: PanelRecorder, now: float) -> float | None:
    stopping = recorder.stopping
    if stopping is None or not 0 < stopping.grace_s < inf:
        return None
    return max(stopping.at + stopping.grace_s - now, 0.0)


# ---------------------------------------------------------------- counts and sums


def _money(stats: RunStats) -> Money:
    replies = stats.replies
    expected = None
    if replies.cost_usd is not None and replies.priced and stats.remaining is not None:
        expected = replies.cost_usd / replies.priced * (replies.priced + stats.remaining)
    if (budget := stats.budget()) is not None:
        spent, limit = budget
        earlier = max(spent - (replies.cost_usd or 0.0), 0.0)
        in_all = None if expected is None else expected + earlier
        return Money(spent=spent, expected=in_all, budget=limit, unpriced=replies.count - replies.priced)
    return Money(spent=replies.cost_usd, expected=expected, budget=None, unpriced=replies.count - replies.priced)


def _replies(replies: ReplyStats) -> RepliesShown:
    return RepliesShown(
        first_token=_quantiles(replies.first_token),
        total=_quantiles(replies.total),
        tokens_per_s=replies.generated.tokens_per_s,
        prompt_tokens=replies.used.prompt,
        completion_tokens=replies.used.completion,
    )


def _quantiles(histogram: Histogram) -> Quantiles:
    return Quantiles(
        median_s=histogram.quantile(0.5), p95_s=histogram.quantile(0.95), longest_s=histogram.quantile(1.0)
    )


def _failed(stats: RunStats) -> tuple[tuple[str, int], ...]:
    counts = [(code, failure.count) for code, failure in stats.failures_by_code.items()]
    if earlier := stats.skipped["failed_permanently"]:
        counts.append(("in earlier runs", earlier))
    return tuple(sorted(counts, key=lambda item: -item[1]))


def _endpoints(recorder: PanelRecorder, clock: Clock) -> tuple[EndpointShownLive, ...]:
    uses = recorder.details.endpoints()
    return tuple(_endpoint(use, clock) for use in uses) if len(uses) > 1 else ()


def _endpoint(use: EndpointUse, clock: Clock) -> EndpointShownLive:
    return EndpointShownLive(
        use=use,
        down_since=None if use.down_since is None else clock.local(use.down_since),
        probe_in_s=max(use.next_probe_at - clock.now, 0.0),
    )


# ---------------------------------------------------------------- the large form


def _large(recorder: PanelRecorder, clock: Clock) -> LargeFormValues:
    models = sorted(recorder.models.by_model.items(), key=lambda item: -item[1].done)
    return LargeFormValues(
        models=tuple(_model(name, sums) for name, sums in models),
        oldest=tuple(
            RequestShown(request=request, age_s=clock.now - request.started_at)
            for request in recorder.details.oldest_requests(MAX_REQUESTS)
        ),
        notices=tuple((clock.local(at), text) for at, text in reversed(recorder.notices)),
        distribution=_distribution(recorder.stats.replies.total),
    )


def _model(name: str, sums: ModelSums) -> ModelShown:
    return ModelShown(
        name=name,
        done=sums.done,
        failed=sums.failed,
        prompt_tokens=sums.used.prompt,
        completion_tokens=sums.used.completion,
        cost_usd=sums.cost_usd,
        first_token_s=sums.first_token.quantile(0.5),
        tokens_per_s=sums.generated.tokens_per_s,
    )


def _distribution(histogram: Histogram) -> tuple[tuple[float, int], ...]:
    """Adjoining buckets from the shortest to the longest, those without a reply included."""
    step = log(DISTRIBUTION_GROWTH)
    counts = {
        round(log(upper_s) / step): count
        for upper_s, count in histogram.counts_by_upper_bound(DISTRIBUTION_GROWTH).items()
    }
    if not counts:
        return ()
    return tuple((exp(number * step), counts.get(number, 0)) for number in range(min(counts), max(counts) + 1))
