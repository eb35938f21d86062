"""Samples over time, for charts of a terminal."""

from __future__ import annotations

from processor.stats.recent_use import MAX_COLUMNS, RecentUse, Use


def recent(seconds: int, every_s: float = 0.5) -> RecentUse:
    """A run with as many requests a minute as seconds have passed."""
    use = RecentUse()
    for step in range(round(seconds / every_s)):
        at = step * every_s
        use.record(at, Use(at, 10.0, 1.0))
    return use


def test_columns_become_wider_so_that_the_whole_run_is_shown_for_an_hour() -> None:
    widths = {seconds: recent(seconds, 5.0).columns(seconds, 30).width_s for seconds in (20, 50, 200, 800, 1500, 9000)}
    assert widths == {20: 1, 50: 2, 200: 10, 800: 30, 1500: 60, 9000: 120}


def test_column_is_the_mean_of_its_samples() -> None:
    shown = recent(40).columns(40.0, 30)
    assert shown.width_s == 2
    assert shown.columns[-1] is None, "it begins now"
    assert shown.columns[-2] == Use(38.75, 10.0, 1.0)
    assert shown.columns[0] is None, "the run had not begun"


def test_time_without_samples_is_left_out() -> None:
    use = recent(10)
    use.record(20.0, Use(1.0, 1.0, 1.0))
    columns = use.columns(20.0, 30).columns
    assert [column is None for column in columns[-12:]] == [False, *[True] * 10, False]


def test_memory_is_bounded() -> None:
    use = recent(3600, 1.0)
    assert all(len(ring._sums) <= MAX_COLUMNS for ring in use._rings)
