"""What a rate limiter reports of how the server counts: ``LimitsChanged.counters``."""

from __future__ import annotations

import pytest

from processor.core.events import LimitsChanged
from processor.ratelimit.settings import LimitSettings
from processor.simulator.rate_limiter import LimiterKind
from tests.support.limiter_simulation import Mode, Simulation, job_tokens, server_limits

RATE = 60
"""Usual jobs a minute."""


def limit_events(kind: LimiterKind, mode: Mode, *, configured: bool) -> list[LimitsChanged]:
    rpm, tpm = server_limits(mode, RATE)
    settings = None if configured else LimitSettings()
    played = Simulation(rpm=rpm, tpm=tpm, kind=kind, settings=settings).run(job_tokens(mode, RATE, RATE + 10))
    return [event for event in played.events if isinstance(event, LimitsChanged)]


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("mode", ["rpm", "tpm"])
@pytest.mark.parametrize(
    ("kind", "found", "period_s", "is_announced"),
    [
        ("sliding", "window", 60, True),
        ("minute", "bucket", 60, True),
        ("second", "bucket", 1, True),
        ("quantised", "bucket", 1, False),
    ],
)
def test_counter_is_reported_once_it_is_found_out(
    kind: LimiterKind, mode: Mode, configured: bool, found: str, period_s: float, is_announced: bool
) -> None:
    events = limit_events(kind, mode, configured=configured)
    (counter,) = events[-1].counters.values()
    assert list(events[-1].counters) == ["requests" if mode == "rpm" else "tokens"]
    assert (counter["kind"], counter["is_announced"]) == (found, is_announced)
    # What a small bucket holds shows only to the unit: one of 60 requests a minute holds a single one.
    assert counter["period_s"] == pytest.approx(period_s, rel=0.15)
    assert counter["size"] == pytest.approx((events[-1].rpm or events[-1].tpm or 0) * period_s / 60, rel=0.15)
    assert sum(bool(event.counters) for event in events) == 1, "how it is counted, once"
    assert len(events) == (1 if events[0].counters else 2), (
        "the limit, which the first header may tell together with it"
    )


def test_nothing_is_reported_of_a_server_that_announces_nothing() -> None:
    assert [event.counters for event in limit_events("silent", "rpm", configured=True)] == [{}]
