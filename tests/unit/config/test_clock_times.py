"""Times of day on the command line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from processor.config.clock_times import next_occurrence
from processor.core.errors import ConfigError


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clocks go forward on 29 March 2026 at 02:00, and back on 25 October 2026 at 03:00."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def hours_to(text: str, now: datetime) -> float:
    return (next_occurrence(text, now) - now.timestamp()) / 3600


def test_time_is_that_of_today_or_tomorrow() -> None:
    assert hours_to("07:30", datetime(2026, 6, 1, 6, 30)) == 1
    assert hours_to("07:30", datetime(2026, 6, 1, 7, 30)) == 24
    assert hours_to("07:30", datetime(2026, 6, 1, 22, 0)) == 9.5


def test_night_with_a_change_of_the_clock_is_an_hour_shorter_or_longer() -> None:
    assert hours_to("07:00", datetime(2026, 3, 28, 22, 0)) == 8
    assert hours_to("07:00", datetime(2026, 10, 24, 22, 0)) == 10


def test_hour_that_comes_twice_is_the_next_one() -> None:
    assert hours_to("02:30", datetime(2026, 10, 25, 1, 30)) == 1
    assert hours_to("02:30", datetime(2026, 10, 25, 2, 45)) == 0.75
    assert hours_to("02:30", datetime(2026, 10, 25, 2, 15, fold=1)) == 0.25
    assert hours_to("02:30", datetime(2026, 10, 25, 2, 45, fold=1)) == 23.75


def test_hour_that_does_not_come_is_the_one_after_it() -> None:
    assert hours_to("02:30", datetime(2026, 3, 29, 1, 30)) == 1


@pytest.mark.parametrize("text", ["24:00", "7", "07:30:00", "half past", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="HH:MM"):
        next_occurrence(text)
