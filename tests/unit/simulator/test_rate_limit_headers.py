from __future__ import annotations

import pytest

from processor.simulator.counters import SECOND_NS
from processor.simulator.rate_limit_headers import go_duration
from processor.simulator.rate_limiter import ServerRateLimiter


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.02, "20ms"),
        (1, "1s"),
        (8.64, "8.64s"),
        (20, "20s"),
        (360, "6m0s"),
        (252.172, "4m12.172s"),
        (3600, "1h0m0s"),
        (83_909.1, "23h18m29.1s"),
    ],
)
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert go_duration(round(seconds * SECOND_NS)) == text


def test_a_reset_never_promises_too_early() -> None:
    assert go_duration(1) == "1ms"
    assert go_duration(999_999_999) == "1s"


def test_openai_tells_when_the_bucket_is_full() -> None:
    limiter = ServerRateLimiter(60, 6000, kind="minute")
    limiter.admit(0.0, 250)
    assert limiter.headers(0.5) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "500ms",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5800",
        "x-ratelimit-reset-tokens": "2s",
    }


def test_azure_counts_whole_seconds() -> None:
    limiter = ServerRateLimiter(60, None)
    limiter.admit(10.0)
    headers = limiter.headers(10.5, "azure")
    assert headers["x-ratelimit-reset-requests"] == "60"
    assert "x-ratelimit-limit-tokens" not in headers


def test_anthropic_names_the_instant() -> None:
    limiter = ServerRateLimiter(None, 6000)
    limiter.admit(10.0, 100)
    assert limiter.headers(10.5, "anthropic", epoch_s=1_767_225_600.25) == {
        "anthropic-ratelimit-tokens-limit": "6000",
        "anthropic-ratelimit-tokens-remaining": "5900",
        "anthropic-ratelimit-tokens-reset": "2026-01-01T00:01:11Z",
    }


def test_the_silent_server_and_no_dialect_say_nothing() -> None:
    assert ServerRateLimiter(60, 60, kind="silent").headers(0.0) == {}
    assert ServerRateLimiter(60, 60).headers(0.0, "none") == {}


def test_without_limits_there_is_nothing_to_say() -> None:
    limiter = ServerRateLimiter(None, None)
    assert limiter.admit(0.0, 10**9).is_admitted
    assert limiter.headers(0.0) == {}


def test_the_seconds_bucket_shows_its_own_small_room_and_the_minutes_limit() -> None:
    headers = ServerRateLimiter(300, None, kind="second").headers(0.0)
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("300", "5")


def test_the_sixth_server_refuses_by_the_second_and_speaks_of_the_minute() -> None:
    limiter = ServerRateLimiter(300, None, kind="quantised", count_throttled=False)
    assert [limiter.admit(0.0).is_admitted for _ in range(6)] == [True] * 5 + [False]
    assert limiter.headers(0.0)["x-ratelimit-remaining-requests"] == "295"
