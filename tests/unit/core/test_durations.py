from __future__ import annotations

import re
from math import inf, isfinite, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.durations import (
    DURATION_IN_WORDS,
    duration_in_words_s,
    duration_s,
    http_date_s,
    plausible_wait_s,
    rfc3339_s,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("1.5", 1.5), ("20ms", 0.02), ("6m0s", 360), ("23h18m29.1s", 83_909.1)]
)
def test_duration_is_bare_seconds_or_a_go_duration(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-1", "-5s", "soon", "1e9", "5 s", "m5s", "5d", "NaN", "inf", "9" * 400])
def test_duration_in_another_format_is_none(text: str) -> None:
    assert duration_s(text) is None


@pytest.mark.parametrize(
    ("sentence", "seconds"),
    [
        ("in 6m0s.", 360),
        ("in 20ms", 0.02),
        ("in 1 minute 30 seconds", 90),
        ("in 250 milliseconds", 0.25),
        ("in 2 Hours", 7200),
    ],
)
def test_duration_is_found_in_a_sentence(sentence: str, seconds: float) -> None:
    found = re.search(rf"in ({DURATION_IN_WORDS})", sentence, re.IGNORECASE)
    assert found is not None
    assert duration_in_words_s(found.group(1)) == pytest.approx(seconds)


def test_unit_that_only_begins_like_a_known_one_is_no_duration() -> None:
    assert re.fullmatch(DURATION_IN_WORDS, "3 months", re.IGNORECASE) is None


@pytest.mark.parametrize(
    ("date", "unix_s"),
    [
        ("Thu, 01 Jan 1970 00:17:40 GMT", 1060),
        ("Thursday, 01-Jan-70 00:17:40 GMT", 1060),
        ("Thu, 01 Jan 1970 02:17:40 +0200", 1060),
        ("Thu, 01 Jan 1970 00:17:40", 1060),
        (None, None),
        ("yesterday", None),
        ("Wed, 99 Oct 99999 99:99:99 GMT", None),
    ],
)
def test_http_date_is_unix_seconds_or_none(date: str | None, unix_s: float | None) -> None:
    assert http_date_s(date) == unix_s


def test_rfc3339_instant_without_a_zone_is_utc() -> None:
    assert rfc3339_s("1970-01-01T00:17:40") == rfc3339_s("1970-01-01T02:17:40+02:00") == 1060
    assert rfc3339_s("1970-99-01") is None


@given(st.text(max_size=40) | st.sampled_from(["0", ",", "27 Nov", "1 Jan 0001 00:00:00 +9999"]))
def test_arbitrary_text_gives_a_finite_number_or_none(text: str) -> None:
    for number in (duration_s(text), http_date_s(text), rfc3339_s(text)):
        assert number is None or isfinite(number)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 3600.0, 366 * 86400.0])
def test_wait_of_up_to_a_year_is_plausible(seconds: float) -> None:
    assert plausible_wait_s(seconds) == seconds


@pytest.mark.parametrize(
    "seconds", [None, -1.0, nan, inf, -inf, 367 * 86400.0, 1.8e9, 1.8e12, 1.8e15, 1e12, 1e308, 999999999 * 3600.0]
)
def test_wait_that_is_no_duration_counts_as_none(seconds: float | None) -> None:
    assert plausible_wait_s(seconds) is None
