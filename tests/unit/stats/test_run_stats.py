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
from processor.stats.rolling_window import RollingWindow
from processor.stats.run_stats import RunStats
from tests.support.run_events import attempt_failed, attempt_started, attempt_succeeded

SKIPPED: tuple[SkipReason, ...] = ("changed", "failed_permanently")


def replied(body: dict[str, Any], at: float = 1.0, **more: Any) -> JobFinished:
    reply = Reply(status_code=200, request_id=None, body=body)
    return JobFinished(at=at, result=Result(fingerprint="f", custom_id="r-1", line=1, reply=reply, **more))


def failed(code: str, message: str = "no", permanent: bool = False, custom_id: str | None = "r-9") -> JobFinished:
    failure = Failure(code=code, message=message, permanent=permanent)
    return JobFinished(at=1.0, result=Result(fingerprint="f", custom_id=custom_id, line=7, failure=failure))


def told(*events: Any) -> RunStats:
    tally = RunStats()
    for event in events:
        tally(event)
    return tally


def test_jobs_are_done_now_done_before_failed_or_still_to_do() -> None:
    tally = told(
        RunStarted(at=0.0, jobs=10, done=2),
        JobSkipped(reason="done", count=2),
        *(JobSkipped(custom_id="r", reason=reason) for reason in SKIPPED),
        replied({}),
        failed("timeout"),
    )
    assert (tally.done, tally.done_before, tally.failures, tally.unsettled) == (1, 3, 2, 4)


def test_what_was_done_before_is_never_more_than_there_are_jobs() -> None:
    assert told(RunStarted(at=0.0, jobs=5, done=900)).done_before == 5


def test_without_a_known_number_of_jobs_nobody_knows_what_is_left() -> None:
    tally = told(RunStarted(at=0.0, jobs=None, done=0), replied({}))
    assert tally.unsettled is None
    assert tally.eta_s(10.0) is None


def test_attempts_are_in_flight_until_they_end() -> None:
    tally = told(attempt_started(0.0), attempt_started(0.0), attempt_succeeded(1.0))
    assert (tally.attempts, tally.in_flight) == (2, 1)


def test_attempts_tried_again_are_counted_by_why() -> None:
    tally = told(
        attempt_failed("rate_limited", status=429),
        attempt_failed("timeout"),
        attempt_failed("timeout", outcome="replace"),
        attempt_failed("x", outcome="fail"),
    )
    assert tally.retried == {"rate_limited": 1, "timeout": 2}


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
def test_an_attempt_that_broke_off_after_it_was_sent_may_have_been_billed(attempt: AttemptFinished, maybe: int) -> None:
    assert told(attempt).maybe_billed == maybe


def test_failures_are_counted_by_code_with_the_first_as_example() -> None:
    tally = told(failed("timeout", "first"), failed("timeout", "second"), failed("rejected", permanent=True))
    assert tally.failed["timeout"].count == 2
    assert tally.failed["timeout"].message == "first"
    assert tally.own_fault == 1


def test_a_line_without_a_name_is_known_by_its_number() -> None:
    assert told(failed("invalid_json", custom_id=None)).failed["invalid_json"].example == "line 7"


def test_memory_does_not_grow_with_what_servers_and_files_say() -> None:
    tally = told(
        *(failed(f"code-{n}", "m" * 10_000, custom_id="i" * 10_000) for n in range(200)),
        *(attempt_failed(f"code-{n}") for n in range(200)),
        *(replied({}, finish_reasons=(f"because-{n}",)) for n in range(200)),
        *(LimitsChanged(at=0.0, limit_group=f"m-{n}", rpm=1, tpm=1, source="reported") for n in range(200)),
        failed("code-1"),
    )
    assert len(tally.failed) == len(tally.retried) == len(tally.replies.finish_reasons) == MAX_LABELS + 1
    assert len(tally.pace.limits) == MAX_LABELS
    assert tally.failed["code-1"].count == 2
    assert tally.failed["other"].count == 200 - MAX_LABELS
    assert max(len(known.message) + len(known.example) for known in tally.failed.values()) <= 600


def test_tokens_are_those_reported_else_those_computed() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=5)
    reported_usage = Usage(prompt_tokens=12, completion_tokens=6)
    tally = told(
        replied({}, usage=usage, reported=reported_usage),
        replied({}, usage=usage),
        replied({}),
    )
    used, reported, computed = tally.replies.used, tally.replies.reported, tally.replies.computed
    assert (used.replies, used.prompt, used.completion) == (2, 22, 11)
    assert (reported.replies, reported.prompt, reported.completion) == (1, 12, 6)
    assert (computed.replies, computed.prompt, computed.completion) == (1, 10, 5)


def test_a_reply_that_was_cut_short_is_counted_as_such_in_any_dialect() -> None:
    stats = told(
        replied({}, finish_reasons=("stop", "length"), is_cut_short=True),
        replied({}, finish_reasons=("max_tokens",), is_cut_short=True),
        replied({}, finish_reasons=("stop",)),
        replied({}),
    )
    assert stats.replies.cut_short == 2
    assert stats.replies.finish_reasons == {"stop": 2, "length": 1, "max_tokens": 1}


def test_times_and_costs_are_summed_over_replies() -> None:
    timing = Timing(started_at="", queued_s=0.0, first_token_s=0.5, total_s=2.0)
    tally = told(replied({}, timing=timing, cost_usd=0.25), replied({}, timing=timing, cost_usd=0.5), replied({}))
    assert tally.replies.cost_usd == 0.75
    assert tally.replies.first_token.quantile(0.5) == pytest.approx(0.5, rel=0.02)
    assert tally.replies.total.quantile(0.95) == pytest.approx(2.0, rel=0.02)


def test_the_last_minute_is_what_counts_against_the_limits() -> None:
    tally = told(attempt_started(0.0, tokens=1000), attempt_started(30.0, tokens=10), attempt_started(59.5, tokens=20))
    assert (tally.pace.requests_last_minute(59.9), tally.pace.tokens_last_minute(59.9)) == (3, 1030)
    assert (tally.pace.requests_last_minute(61.0), tally.pace.tokens_last_minute(61.0)) == (2, 30)


def test_limits_of_several_lanes_add_up_where_all_are_known() -> None:
    tally = told(LimitsChanged(at=0.0, limit_group="a", rpm=500, tpm=None, source="configured"))
    assert (tally.pace.rpm, tally.pace.tpm) == (500, None)
    tally(LimitsChanged(at=1.0, limit_group="b", rpm=100, tpm=9000, source="reported"))
    tally(LimitsChanged(at=2.0, limit_group="a", rpm=300, tpm=None, source="reported"))
    assert (tally.pace.rpm, tally.pace.tpm) == (400, None)
    assert RunStats().pace.rpm is None


def test_what_is_left_is_foretold_from_the_recent_pace() -> None:
    tally = told(RunStarted(at=100.0, jobs=1000, done=0), *(replied({}, at=100.0 + n / 10) for n in range(100)))
    assert tally.eta_s(110.0) == pytest.approx(90.0)
    assert tally.elapsed_s(110.0) == 10.0
    assert RunStats().eta_s(5.0) is None
    assert RunStats().elapsed_s(5.0) == 0.0


def test_after_a_burst_the_limit_tells_how_long_the_rest_will_take() -> None:
    limits = LimitsChanged(at=0.0, limit_group="", rpm=60, tpm=None, source="reported")
    burst = [step for n in range(60) for step in (attempt_started(n / 20), replied({}, at=n / 20))]
    tally = told(RunStarted(at=0.0, jobs=400, done=0), limits, *burst)
    assert tally.eta_s(5.0) == pytest.approx(340.0)


def test_a_change_of_pace_is_followed() -> None:
    fast = [replied({}, at=n / 10) for n in range(6000)]
    slow = [replied({}, at=600.0 + n) for n in range(600)]
    tally = told(RunStarted(at=0.0, jobs=7600, done=0), *fast, *slow)
    assert tally.eta_s(1199.0) == pytest.approx(1000, rel=0.02)


def test_shares_of_time_go_to_what_the_run_waited_for() -> None:
    tally = told(
        BottleneckChanged(at=10.0, bottleneck="in_flight"),
        BottleneckChanged(at=12.0, bottleneck="tokens"),
        BottleneckChanged(at=19.0, bottleneck=None),
    )
    assert tally.pace.bound_shares(20.0) == [("tokens", 0.7), ("in_flight", 0.2), (None, 0.1)]
    tally(BottleneckChanged(at=20.0, bottleneck="in_flight"))
    assert tally.pace.bound_shares(30.0) == [("in_flight", 0.6), ("tokens", 0.35), (None, 0.05)]
    assert RunStats().pace.bound_shares(20.0) == []
    assert told(BottleneckChanged(at=10.0, bottleneck="input")).pace.bound_shares(10.0) == []


def test_why_the_run_stops_is_kept_and_notices_are_not() -> None:
    tally = told(Notice(at=0.0, text="an outage"), Stopping(at=5.0, reason="quota"))
    assert (tally.stopping, tally.last_at) == ("quota", 5.0)


@given(
    st.lists(st.floats(0.001, 10_000), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.95, 1.0]),
)
def test_a_quantile_is_off_by_one_percent_at_most(seconds: list[float], share: float) -> None:
    histogram = Histogram()
    for value in seconds:
        histogram.add(value)
    exact = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    assert histogram.quantile(share) == pytest.approx(exact, rel=0.0101)


def test_no_duration_is_too_odd_for_the_histogram() -> None:
    histogram = Histogram()
    for odd in (0.0, -1.0, 1e12):
        histogram.add(odd)
    assert histogram.count == 3
    assert Histogram().quantile(0.5) is None


@given(st.lists(st.tuples(st.floats(0, 400), st.integers(0, 9)), max_size=60), st.floats(0, 500))
def test_a_window_knows_its_span_to_a_bucket(added: list[tuple[float, int]], later_s: float) -> None:
    window = RollingWindow(60, 60)
    added.sort()
    for at, amount in added:
        window.add(at, amount)
    now = (added[-1][0] if added else 0.0) + later_s
    whole = sum(amount for at, amount in added if at > now - 60)
    surely = sum(amount for at, amount in added if at > now - 59)
    assert surely <= window.total(now) <= whole
