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
def test_go_duration_has_the_format_of_go(seconds: float, text: str) -> None:
    assert go_duration(round(seconds * SECOND_NS)) == text


def test_go_duration_rounds_up() -> None:
    assert go_duration(1) == "1ms"
    assert go_duration(999_999_999) == "1s"


def test_openai_reset_is_the_time_until_the_bucket_is_full() -> None:
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


def test_azure_reset_is_in_whole_seconds() -> None:
    limiter = ServerRateLimiter(60, None)
    limiter.admit(10.0)
    headers = limiter.headers(10.5, "azure")
    assert headers["x-ratelimit-reset-requests"] == "60"
    assert "x-ratelimit-limit-tokens" not in headers


def test_anthropic_reset_is_a_date() -> None:
    limiter = ServerRateLimiter(None, 6000)
    limiter.admit(10.0, 100)
    assert limiter.headers(10.5, "anthropic", epoch_s=1_767_225_600.25) == {
        "anthropic-ratelimit-tokens-limit": "6000",
        "anthropic-ratelimit-tokens-remaining": "5900",
        "anthropic-ratelimit-tokens-reset": "2026-01-01T00:01:11Z",
        "date": "Thu, 01 Jan 2026 00:00:10 GMT",
    }


def test_silent_limiter_and_dialect_none_send_no_headers() -> None:
    assert ServerRateLimiter(60, 60, kind="silent").headers(0.0) == {}
    assert ServerRateLimiter(60, 60).headers(0.0, "none") == {}


def test_limiter_without_limits_sends_no_headers() -> None:
    limiter = ServerRateLimiter(None, None)
    assert limiter.admit(0.0, 10**9).is_admitted
    assert limiter.headers(0.0) == {}


def test_second_bucket_reports_its_own_remaining_and_the_limit_per_minute() -> None:
    headers = ServerRateLimiter(300, None, kind="second").headers(0.0)
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("300", "5")


def test_quantised_limiter_enforces_a_second_and_reports_a_minute() -> None:
    limiter = ServerRateLimiter(300, None, kind="quantised", count_throttled=False)
    assert [limiter.admit(0.0).is_admitted for _ in range(6)] == [True] * 5 + [False]
    assert limiter.headers(0.0)["x-ratelimit-remaining-requests"] == "295"
