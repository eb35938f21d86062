"""How long a run takes by its limits, as a function: amounts, limits and counters in, seconds out."""

from __future__ import annotations

from math import inf

import pytest

from processor.core.models import Cost
from processor.estimate.duration import Duration, InFlight, Start, duration_of
from processor.estimate.group_totals import ChargedRequest, GroupTotals
from processor.estimate.seen_limits import Counter, SeenLimits, ServerLimits, likeliest_counter, seen_in
from processor.ratelimit.settings import LimitSettings, RateLimits

GROUP = "m"
WINDOW = Counter(kind="window")


def seconds(
    requests: int,
    *,
    rpm: float | None = None,
    server: ServerLimits | None = None,
    in_flight: int | None = None,
    reply_s: float = 1.0,
    start: Start | None = None,
) -> Duration:
    group = GroupTotals(GROUP)
    for _ in range(requests):
        group.add(ChargedRequest(Cost(), reply_s))
    return duration_of(
        {GROUP: group},
        LimitSettings(default=RateLimits(rpm=rpm)),
        SeenLimits() if server is None else SeenLimits(by_group={GROUP: server}),
        likeliest=likeliest_counter(60.0),
        start=start or Start(),
        in_flight=None if in_flight is None else InFlight(requests=in_flight),
    )


@pytest.mark.parametrize(
    ("counter", "requests", "expected"),
    [
        (Counter(kind="bucket"), 100, 0),
        (Counter(kind="bucket"), 250, 90),
        (WINDOW, 100, 0),
        (WINDOW, 101, 60),
        (WINDOW, 200, 60),
        (WINDOW, 250, 120),
        (Counter(kind="bucket", period_s=1.0), 100, 60),
        (Counter(kind="bucket", period_s=10.0), 250, (250 - 100 / 6) * 0.6),
    ],
)
def test_counter_of_the_server_decides_when_the_last_request_is_sent(
    counter: Counter, requests: int, expected: float
) -> None:
    found = seconds(requests, server=ServerLimits(rpm=100, tpm=inf, counters={"requests": counter}))
    assert found.sending_s == pytest.approx(expected)
    assert found.bounds[0].counter == counter


def test_what_is_left_of_the_last_window_is_sent_as_fast_as_requests_end() -> None:
    server = ServerLimits(rpm=100, tpm=inf, counters={"requests": WINDOW})
    found = seconds(150, server=server, in_flight=10)
    (by_requests,) = (bound for bound in found.bounds if bound.resource == "requests")
    assert by_requests.seconds == pytest.approx(60 + 14 / 3), "140 requests follow the first ten; 50 of 150 are left"
    assert found.seconds == pytest.approx(60 + 14 / 3 + 1)


def test_ceiling_and_unannounced_limit_are_paced_evenly_whatever_the_counter() -> None:
    server = ServerLimits(rpm=1000, tpm=inf, counters={"requests": WINDOW})
    assert seconds(150, rpm=100, server=server).bounds[0].counter is None
    assert seconds(150, rpm=100, server=server).sending_s == 90
    assert seconds(150, rpm=100, server=ServerLimits(rpm=inf, tpm=inf)).sending_s == 90


def test_first_burst_is_waited_for_only_where_a_burst_is_sent() -> None:
    start = Start(alone_s=0.5, probe_s=2.0)
    server = ServerLimits(rpm=100, tpm=inf, counters={"requests": WINDOW})
    assert seconds(100, server=server, start=start).sending_s == 2.5
    assert seconds(100, rpm=50, server=server, start=start).sending_s == 120.5


def test_likeliest_counter_is_assumed_and_says_so() -> None:
    (bound,) = seconds(150, rpm=100).bounds
    assert bound.counter is not None and bound.counter.is_assumed
    assert bound.seconds == 30


# ---------------------------------------------------------------- what a history tells

MINUTE = {"run": "0", "time": "2026-01-01T00:01:00+00:00", "done": 5}


def limits(**more: object) -> dict[str, object]:
    return {GROUP: {"source": "reported", "server_rpm": 100, "server_tpm": None, **more}}


def test_history_keeps_the_last_limits_and_what_was_found_out_of_the_counter() -> None:
    counters = {"requests": {"kind": "window", "size": 100, "period_s": 60, "is_announced": True}}
    short_run = MINUTE | {"limits": limits(server_rpm=200, counters={})}
    seen = seen_in([MINUTE | {"limits": limits(counters=counters)}, short_run])
    assert seen is not None
    assert seen.of(GROUP) == ServerLimits(rpm=200, tpm=inf, counters={"requests": WINDOW})


@pytest.mark.parametrize(
    "damaged",
    [None, 3, {"requests": None}, {"requests": {"kind": "fixed", "period_s": 60}}]
    + [{"requests": {"kind": "window", "period_s": period_s}} for period_s in (None, 0, -1, "60", 1e300)],
)
def test_counters_that_make_no_sense_are_left_out(damaged: object) -> None:
    seen = seen_in([MINUTE | {"limits": limits(counters=damaged)}])
    assert seen is not None and seen.of(GROUP).counters == {}


def test_history_without_replies_or_limits_tells_of_a_silent_server_or_nothing() -> None:
    assert seen_in([]) is None
    assert seen_in([MINUTE | {"done": 0, "limits": {}}]) is None
    silent = seen_in([MINUTE | {"limits": {GROUP: {"source": "configured", "rpm": 5}}}])
    assert silent is not None and silent.is_silent
