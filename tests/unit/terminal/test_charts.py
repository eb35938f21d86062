"""Bars and charts of characters."""

from __future__ import annotations

import pytest

from processor.terminal.charts import ASCII, UNICODE, Characters, bar, characters_for, column_chart, sparkline


def test_sparkline_reaches_full_height_at_the_limit_only() -> None:
    assert sparkline([None, 0, 12, 58, 87, 88, 100, 140], 100, UNICODE) == " ▁▁▅▇███"
    assert sparkline([0, 50, 100], 100, ASCII) == "_-#"
    assert sparkline([0, 5], 0, UNICODE) == "▁▁", "without a scale nothing is known to be high"


def test_column_chart_has_the_highest_row_first() -> None:
    assert column_chart([None, 0, 25, 50, 100, 200], 100, 2, UNICODE) == ["    ██", "  ▄███"]
    assert column_chart([0, 0], 0, 3, UNICODE) == ["", "", ""]


@pytest.mark.parametrize(("share", "expected"), [(0.0, ("", "────")), (0.49, ("━", "───")), (1.0, ("━━━━", ""))])
def test_bar_is_full_at_the_end_only(share: float, expected: tuple[str, str]) -> None:
    assert bar(share, 4, UNICODE) == expected


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", UNICODE), ("iso-8859-1", ASCII), ("ascii", ASCII), (None, ASCII), ("no such encoding", ASCII)],
)
def test_characters_are_those_that_the_terminal_can_show(encoding: str | None, expected: Characters) -> None:
    assert characters_for(encoding) == expected
