"""Statistics of a run, from its events."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.events import (
    AttemptFinished,
    BottleneckChanged,
    JobFinished,
    JobSkipped,
    LimitsChanged,
    Notice,
    RunStarted,
    SkipReason,
    Stopping,
)
from processor.core.models import Failure, Reply, Result, Timing, Usage
from processor.stats.histogram import Histogram
from processor.stats.reply_stats import MAX_LABELS
from processor.stats.run_stats import RunStats
from processor.stats.throughput import RollingWindow
from tests.support.run_events import attempt_failed, attempt_started, attempt_succeeded

SKIPPED: tuple[SkipReason, ...] = ("changed", "failed_permanently")


def replied(body: dict[str, Any], at: float = 1.0, **more: Any) -> JobFinished:
    reply = Reply(status_code=200, request_id=None, body=body)
    return JobFinished(at=at, result=Result(fingerprint="f", custom_id="r-1", line=1, reply=reply, **more))


def failed(code: str, message: str = "no", permanent: bool = False, custom_id: str | None = "r-9") -> JobFinished:
    failure = Failure(code=code, message=message, permanent=permanent)
    return JobFinished(at=1.0, result=Result(fingerprint="f", custom_id=custom_id, line=7, failure=failure))


def stats_after(*events: Any) -> RunStats:
    stats = RunStats()
    for event in events:
        stats(event)
    return stats


def test_every_job_is_done_done_earlier_failed_or_remaining() -> None:
    stats = stats_after(
        RunStarted(at=0.0, jobs=10, done=2),
        JobSkipped(reason="done", count=2),
        *(JobSkipped(custom_id="r", reason=reason) for reason in SKIPPED),
        replied({}),
        failed("timeout"),
    )
    assert (stats.done, stats.done_earlier, stats.failed, stats.remaining) == (1, 3, 2, 4)


def test_done_earlier_does_not_exceed_the_number_of_jobs() -> None:
    assert stats_after(RunStarted(at=0.0, jobs=5, done=900)).done_earlier == 5


def test_remaining_and_eta_are_unknown_if_the_number_of_jobs_is() -> None:
    stats = stats_after(RunStarted(at=0.0, jobs=None, done=0), replied({}))
    assert stats.remaining is None
    assert stats.eta_s(10.0) is None


def test_attempts_are_in_flight_until_they_finish() -> None:
    stats = stats_after(attempt_started(0.0), attempt_started(0.0), attempt_succeeded(1.0))
    assert (stats.attempts, stats.in_flight) == (2, 1)


def test_retried_attempts_are_counted_by_error_code() -> None:
    stats = stats_after(
        attempt_failed("rate_limited", status=429),
        attempt_failed("timeout"),
        attempt_failed("timeout", outcome="replace"),
        attempt_failed("x", outcome="fail"),
    )
    assert stats.retried == {"rate_limited": 1, "timeout": 2}


@pytest.mark.parametrize(
    ("attempt", "maybe"),
    [
        (attempt_failed("stream_truncated", status=200), 1),
        (attempt_failed("connection_lost", status=None), 1),
        (attempt_failed("timeout", status=None, outcome="fail"), 1),
        (attempt_failed("connect_failed", status=None), 0),
        (attempt_failed("rate_limited", status=429), 0),
        (attempt_failed("server_error", status=500), 0),
        (attempt_succeeded(1.0), 0),
    ],
)
def test_attempt_without_a_reply_or_a_refusal_is_possibly_billed(attempt: AttemptFinished, maybe: int) -> None:
    assert stats_after(attempt).possibly_billed == maybe


def test_failures_are_counted_by_code_with_the_first_as_example() -> None:
    stats = stats_after(failed("timeout", "first"), failed("timeout", "second"), failed("rejected", permanent=True))
    assert stats.failures_by_code["timeout"].count == 2
    assert stats.failures_by_code["timeout"].message == "first"
    assert stats.permanent_failures == 1


def test_example_of_a_failure_without_custom_id_is_its_line() -> None:
    assert stats_after(failed("invalid_json", custom_id=None)).failures_by_code["invalid_json"].example == "line 7"


def test_number_and_length_of_labels_are_bounded() -> None:
    stats = stats_after(
        *(failed(f"code-{n}", "m" * 10_000, custom_id="i" * 10_000) for n in range(200)),
        *(attempt_failed(f"code-{n}") for n in range(200)),
        *(replied({}, finish_reasons=(f"because-{n}",)) for n in range(200)),
        *(LimitsChanged(at=0.0, limit_group=f"m-{n}", rpm=1, tpm=1, source="reported") for n in range(200)),
        failed("code-1"),
    )
    assert len(stats.failures_by_code) == len(stats.retried) == len(stats.replies.finish_reasons) == MAX_LABELS + 1
    assert len(stats.throughput.limits) == MAX_LABELS
    assert stats.failures_by_code["code-1"].count == 2
    assert stats.failures_by_code["other"].count == 200 - MAX_LABELS
    assert max(len(known.message) + len(known.example) for known in stats.failures_by_code.values()) <= 600


def test_used_tokens_are_reported_ones_else_computed_ones() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=5)
    reported_usage = Usage(prompt_tokens=12, completion_tokens=6)
    stats = stats_after(
        replied({}, usage=usage, reported=reported_usage),
        replied({}, usage=usage),
        replied({}),
    )
    used, reported, computed = stats.replies.used, stats.replies.reported, stats.replies.computed
    assert (used.replies, used.prompt, used.completion) == (2, 22, 11)
    assert (reported.replies, reported.prompt, reported.completion) == (1, 12, 6)
    assert (computed.replies, computed.prompt, computed.completion) == (1, 10, 5)


def test_finish_reasons_and_replies_cut_short_are_counted() -> None:
    stats = stats_after(
        replied({}, finish_reasons=("stop", "length"), is_cut_short=True),
        replied({}, finish_reasons=("max_tokens",), is_cut_short=True),
        replied({}, finish_reasons=("stop",)),
        replied({}, is_unconfirmed=True),
    )
    assert stats.replies.cut_short == 2
    assert stats.replies.unconfirmed == 1
    assert stats.replies.finish_reasons == {"stop": 2, "length": 1, "max_tokens": 1}


def test_durations_and_costs_are_collected_from_replies() -> None:
    timing = Timing(started_at="", queued_s=0.0, first_token_s=0.5, total_s=2.0)
    stats = stats_after(
        replied({}, timing=timing, cost_usd=0.25), replied({}, timing=timing, cost_usd=0.5), replied({})
    )
    assert stats.replies.cost_usd == 0.75
    assert stats.replies.first_token.quantile(0.5) == pytest.approx(0.5, rel=0.02)
    assert stats.replies.total.quantile(0.95) == pytest.approx(2.0, rel=0.02)


def test_requests_and_tokens_of_the_last_minute() -> None:
    stats = stats_after(
        attempt_started(0.0, tokens=1000), attempt_started(30.0, tokens=10), attempt_started(59.5, tokens=20)
    )
    assert (stats.throughput.requests_last_minute(59.9), stats.throughput.tokens_last_minute(59.9)) == (3, 1030)
    assert (stats.throughput.requests_last_minute(61.0), stats.throughput.tokens_last_minute(61.0)) == (2, 30)


def test_limits_of_several_groups_add_up_if_all_are_known() -> None:
    stats = stats_after(LimitsChanged(at=0.0, limit_group="a", rpm=500, tpm=None, source="configured"))
    assert (stats.throughput.rpm, stats.throughput.tpm) == (500, None)
    stats(LimitsChanged(at=1.0, limit_group="b", rpm=100, tpm=9000, source="reported"))
    stats(LimitsChanged(at=2.0, limit_group="a", rpm=300, tpm=None, source="reported"))
    assert (stats.throughput.rpm, stats.throughput.tpm) == (400, None)
    assert RunStats().throughput.rpm is None


def test_eta_follows_the_recent_speed() -> None:
    stats = stats_after(RunStarted(at=100.0, jobs=1000, done=0), *(replied({}, at=100.0 + n / 10) for n in range(100)))
    assert stats.eta_s(110.0) == pytest.approx(90.0)
    assert stats.elapsed_s(110.0) == 10.0
    assert RunStats().eta_s(5.0) is None
    assert RunStats().elapsed_s(5.0) == 0.0


def test_eta_after_a_burst_follows_the_limit() -> None:
    limits = LimitsChanged(at=0.0, limit_group="", rpm=60, tpm=None, source="reported")
    burst = [step for n in range(60) for step in (attempt_started(n / 20), replied({}, at=n / 20))]
    stats = stats_after(RunStarted(at=0.0, jobs=400, done=0), limits, *burst)
    assert stats.eta_s(5.0) == pytest.approx(340.0)


def test_eta_after_a_burst_follows_the_token_limit() -> None:
    stats = RunStats()
    stats(RunStarted(at=0.0, jobs=100, done=0))
    stats(LimitsChanged(at=0.0, limit_group="m", rpm=None, tpm=1000, source="reported"))
    for _ in range(10):
        stats(attempt_started(1.0, tokens=100))
        stats(replied({}, at=2.0))
    assert stats.eta_s(5.0) == pytest.approx(90 * 100 / 1000 * 60), "at 100 tokens a job; this minute's are used"


def test_eta_stands_still_during_an_outage_and_goes_on_after_it() -> None:
    stats = stats_after(RunStarted(at=0.0, jobs=200, done=0), *(replied({}, at=float(n)) for n in range(100)))
    stats(BottleneckChanged(at=100.0, bottleneck="outage"))
    before = stats.eta_s(100.0)
    assert before == stats.eta_s(150.0) == stats.eta_s(4000.0) == pytest.approx(100.0, rel=0.05)
    stats(BottleneckChanged(at=4000.0, bottleneck="in_flight"))
    for n in range(50):
        stats(replied({}, at=4000.0 + n))
    assert stats.eta_s(4050.0) == pytest.approx(50.0, rel=0.05)


def test_eta_stands_still_during_an_outage_where_a_limit_holds() -> None:
    stats = stats_after(
        RunStarted(at=0.0, jobs=200, done=0),
        LimitsChanged(at=0.0, limit_group="", rpm=60, tpm=None, source="configured"),
        *(replied({}, at=float(n)) for n in range(100)),
        BottleneckChanged(at=100.0, bottleneck="outage"),
    )
    assert stats.eta_s(100.0) == stats.eta_s(160.0) == stats.eta_s(3000.0)


def test_eta_follows_a_change_of_speed() -> None:
    fast = [replied({}, at=n / 10) for n in range(6000)]
    slow = [replied({}, at=600.0 + n) for n in range(600)]
    stats = stats_after(RunStarted(at=0.0, jobs=7600, done=0), *fast, *slow)
    assert stats.eta_s(1199.0) == pytest.approx(1000, rel=0.02)


def test_jobs_in_their_back_off_are_told_from_a_lack_of_jobs() -> None:
    stats = stats_after(
        BottleneckChanged(at=0.0, bottleneck="in_flight"),
        attempt_failed("server_error", at=1.0, custom_id="a", retry_delay_s=9.0),
        attempt_failed("server_error", at=1.0, custom_id="b", retry_delay_s=5.0),
    )
    assert stats.throughput.bottleneck == "in_flight", "another job waits to be sent"
    stats(BottleneckChanged(at=2.0, bottleneck="input"))
    assert (stats.throughput.bottleneck, stats.next_request_at(2.0)) == ("back_off", 6.0)
    stats(attempt_started(6.0, custom_id="b"))
    assert (stats.throughput.bottleneck, stats.next_request_at(6.0)) == ("back_off", 10.0)
    stats(attempt_started(10.0, custom_id="a"))
    assert (stats.throughput.bottleneck, stats.next_request_at(10.0)) == ("input", None)
    assert stats.throughput.bottleneck_s(12.0) == {"in_flight": 2.0, "back_off": 8.0, "input": 2.0}


def test_job_that_is_not_sent_again_after_its_back_off_is_forgotten() -> None:
    stats = stats_after(
        BottleneckChanged(at=0.0, bottleneck="input"),
        attempt_failed("server_error", at=1.0, custom_id="withdrawn", retry_delay_s=9.0),
    )
    assert stats.throughput.bottleneck == "back_off"
    stats(BottleneckChanged(at=20.0, bottleneck="tokens"))
    stats(BottleneckChanged(at=21.0, bottleneck="input"))
    assert (stats.throughput.bottleneck, stats.next_request_at(21.0)) == ("input", None)


def test_bottleneck_shares_are_shares_of_time() -> None:
    stats = stats_after(
        BottleneckChanged(at=10.0, bottleneck="in_flight"),
        BottleneckChanged(at=12.0, bottleneck="tokens"),
        BottleneckChanged(at=19.0, bottleneck=None),
    )
    assert stats.throughput.bottleneck_shares(20.0) == [("tokens", 0.7), ("in_flight", 0.2), (None, 0.1)]
    stats(BottleneckChanged(at=20.0, bottleneck="in_flight"))
    assert stats.throughput.bottleneck_shares(30.0) == [("in_flight", 0.6), ("tokens", 0.35), (None, 0.05)]
    assert RunStats().throughput.bottleneck_shares(20.0) == []
    assert stats_after(BottleneckChanged(at=10.0, bottleneck="input")).throughput.bottleneck_shares(10.0) == []


def test_stop_reason_is_kept_and_notices_are_ignored() -> None:
    stats = stats_after(Notice(at=0.0, text="an outage"), Stopping(at=5.0, reason="quota"))
    assert (stats.stop_reason, stats.last_event_at) == ("quota", 5.0)


@given(
    st.lists(st.floats(0.001, 10_000), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.95, 1.0]),
)
def test_quantile_is_exact_to_one_percent(seconds: list[float], share: float) -> None:
    histogram = Histogram()
    for value in seconds:
        histogram.add(value)
    exact = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    assert histogram.quantile(share) == pytest.approx(exact, rel=0.0101)


def test_histogram_accepts_any_duration() -> None:
    histogram = Histogram()
    for odd in (0.0, -1.0, 1e12):
        histogram.add(odd)
    assert histogram.count == 3
    assert Histogram().quantile(0.5) is None


@given(st.lists(st.tuples(st.floats(0, 400), st.integers(0, 9)), max_size=60), st.floats(0, 500))
def test_rolling_window_is_exact_to_one_bucket(added: list[tuple[float, int]], later_s: float) -> None:
    window = RollingWindow(60, 60)
    added.sort()
    for at, amount in added:
        window.add(at, amount)
    now = (added[-1][0] if added else 0.0) + later_s
    whole = sum(amount for at, amount in added if at > now - 60)
    surely = sum(amount for at, amount in added if at > now - 59)
    assert surely <= window.total(now) <= whole
