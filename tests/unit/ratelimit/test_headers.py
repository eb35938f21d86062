from __future__ import annotations

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.ratelimit.headers import HEADER_NAMES, Reported, parse_count, parse_rate_limit_headers, parse_reset_s
from processor.simulator.rate_limit_headers import go_duration

ALL_NAMES = [
    *(f"x-ratelimit-{part}-{what}" for part in ("limit", "remaining", "reset") for what in ("requests", "tokens")),
    *(f"x-ratelimit-{part}-project-tokens" for part in ("limit", "remaining", "reset")),
    *(f"anthropic-ratelimit-input-tokens-{part}" for part in ("limit", "remaining", "reset")),
    "date",
]
DATE = "Fri, 27 Nov 2026 08:00:00 GMT"

odd_values = st.sampled_from(
    ["-1", "0", "1e400", "NaN", "inf", "-inf", "9" * 400, "1.0", "٣", "²", "6m0s", "1h", "m", "."]
)
dates = st.sampled_from([DATE, "27 Nov", "Fri, 99 Nov 2026 99:99:99 GMT", "0", ",", "2026-11-27T08:00:00Z"])
values = st.one_of(st.text(max_size=30), odd_values, dates, st.integers().map(str), st.floats().map(str))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20ms", 0.02),
        ("1s", 1),
        ("6m0s", 360),
        ("4m12.172s", 252.172),
        ("23h18m29.1s", 83_909.1),
        ("2h", 7200),
        ("5m", 300),
        ("0s", 0),
        ("0", 0),
        ("37", 37),
        ("1.5", 1.5),
        ("2026-11-27T08:01:30Z", 90),
        ("2026-11-27T08:01:30+00:00", 90),
        ("2026-11-27T09:01:30+01:00", 90),
        ("2026-11-27T08:01:30", 90),
        ("2026-11-27T07:00:00Z", 0),
    ],
)
def test_reset_is_parsed_in_every_format(text: str, seconds: float) -> None:
    assert parse_reset_s(text, DATE) == pytest.approx(seconds)


@pytest.mark.parametrize("nonsense", [None, "", "-1", "-5s", "soon", "1e9", "5 s", "m5s", "9" * 400, "2026-99-99"])
def test_reset_that_makes_no_sense_is_none(nonsense: str | None) -> None:
    assert parse_reset_s(nonsense, DATE) is None


def test_reset_instant_needs_the_date_of_the_response() -> None:
    assert parse_reset_s("2026-11-27T08:01:30Z") is None
    assert parse_reset_s("2026-11-27T08:01:30Z", "yesterday") is None


@given(st.integers(0, 10**15))
def test_reset_as_a_go_duration_is_parsed_to_the_millisecond(duration_ns: int) -> None:
    assert parse_reset_s(go_duration(duration_ns)) == pytest.approx(duration_ns / 1e9, abs=0.0011)


@pytest.mark.parametrize(("written", "number"), [("0", 0), ("300", 300), (" 7 ", 7), ("40000.0", 40_000)])
def test_count_is_a_whole_number(written: str, number: float) -> None:
    assert parse_count(written) == number


@pytest.mark.parametrize("nonsense", [None, "", "-1", "1.5", "1e3", "NaN", "inf", "٣", "9" * 16, "many"])
def test_count_that_is_no_whole_number_is_none(nonsense: str | None) -> None:
    assert parse_count(nonsense) is None


def test_headers_of_both_dialects_are_parsed() -> None:
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-remaining-project-tokens": "0",
        "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-output-tokens-remaining": "7000",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-27T08:00:05Z",
        "date": DATE,
    }
    assert parse_rate_limit_headers(headers) == {
        "requests": Reported(500, 499, 0.12),
        "project_tokens": Reported(None, 0),
        "input_tokens": Reported(40_000, None),
        "output_tokens": Reported(None, 7000, 5),
    }


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_limit_of_zero_or_less_counts_as_absent(limit: str) -> None:
    headers = {"x-ratelimit-limit-requests": limit, "x-ratelimit-remaining-requests": "12"}
    assert parse_rate_limit_headers(headers) == {"requests": Reported(None, 12)}
    assert parse_rate_limit_headers({"x-ratelimit-limit-tokens": limit, "x-ratelimit-remaining-tokens": "-1"}) == {}


@pytest.mark.parametrize("limit", ["0", "1", "10"])
def test_what_remains_of_a_token_limit_too_low_for_a_reply_is_not_believed_either(limit: str) -> None:
    assert parse_rate_limit_headers({"x-ratelimit-limit-tokens": limit, "x-ratelimit-remaining-tokens": "0"}) == {}


def test_reset_alone_reports_no_limit() -> None:
    assert parse_rate_limit_headers({"x-ratelimit-reset-tokens": "6s"}) == {}


@given(st.dictionaries(st.sampled_from(ALL_NAMES), values))
def test_arbitrary_header_values_give_finite_numbers_or_none(headers: dict[str, str]) -> None:
    for reported in parse_rate_limit_headers(headers).values():
        assert reported.limit or reported.remaining is not None
        for number in reported:
            assert number is None or (isfinite(number) and number >= 0)
        assert reported.limit != 0


@pytest.mark.parametrize("limit", ["1", "10", "63", "NaN", "1e308", "-5", "inf"])
def test_token_limit_that_the_replies_contradict_is_not_believed(limit: str) -> None:
    headers = {"x-ratelimit-limit-tokens": limit, "x-ratelimit-remaining-tokens": "0" if limit.isdigit() else limit}
    assert parse_rate_limit_headers(headers) == {}


def test_limit_on_requests_of_a_day_is_not_read_as_one_of_a_minute() -> None:
    headers = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14370",
        "x-ratelimit-reset-requests": "2m59.56s",
        "x-ratelimit-limit-tokens": "18000",
        "x-ratelimit-remaining-tokens": "17997",
        "x-ratelimit-reset-tokens": "7.66s",
    }
    assert parse_rate_limit_headers(headers).keys() == {"requests", "tokens"}
    reported = parse_rate_limit_headers(headers, HEADER_NAMES["requests-per-day"])
    assert reported == {"tokens": Reported(18000, 17997, 7.66)}


def test_limits_are_read_by_the_period_that_the_names_of_their_headers_end_in() -> None:
    headers = {
        "x-ratelimit-limit-requests-day": "14400",
        "x-ratelimit-remaining-requests-day": "14370",
        "x-ratelimit-limit-tokens-minute": "60000",
        "x-ratelimit-remaining-tokens-minute": "59000",
        "x-ratelimit-reset-tokens-minute": "11.38",
        "x-ratelimit-limit-requests-minute": "30",
        "x-ratelimit-remaining-requests-minute": "29",
    }
    assert parse_rate_limit_headers(headers) == {}
    assert parse_rate_limit_headers(headers, HEADER_NAMES["named-periods"]) == {
        "requests": Reported(30, 29),
        "tokens": Reported(60000, 59000, 11.38),
    }
