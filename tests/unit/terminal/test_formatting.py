from __future__ import annotations

import pytest

from processor.terminal import formatting


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "0"),
        (999, "999"),
        (9_999, "9,999"),
        (9_999.6, "10k"),
        (181_234, "181k"),
        (999_499, "999k"),
        (999_500, "1.0M"),
        (1_240_000, "1.2M"),
        (12_400_000, "12M"),
        (7_200_000_000, "7.2G"),
        (7_200_000_000_000, "7200G"),
    ],
)
def test_abbreviated_numbers_take_five_characters_at_most(number: float, expected: str) -> None:
    assert formatting.abbreviated(number) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.00 s"),
        (0.424, "0.42 s"),
        (0.996, "1.0 s"),
        (3.14, "3.1 s"),
        (42.4, "42 s"),
        (59.6, "1m 00s"),
        (200, "3m 20s"),
        (3599.7, "1h 00m"),
        (3900, "1h 05m"),
        (86_400 * 2 + 3600 * 3, "2d 03h"),
    ],
)
def test_durations_are_formatted_with_the_unit_that_fits(seconds: float, expected: str) -> None:
    assert formatting.duration(seconds) == expected


@pytest.mark.parametrize(("share", "expected"), [(0, "0%"), (0.001, "<1%"), (0.5, "50%"), (0.996, ">99%"), (1, "100%")])
def test_percent_does_not_round_a_part_to_none_or_all(share: float, expected: str) -> None:
    assert formatting.percent(share) == expected


def test_plural_depends_on_the_number() -> None:
    assert formatting.plural(1, "job") == "1 job"
    assert formatting.plural(2000, "job") == "2,000 jobs"
    assert formatting.plural(0, "reply", "replies") == "0 replies"


def test_printable_replaces_control_characters_and_surrogates() -> None:
    assert formatting.printable("a\x1b[2Jb\n\tc\x9b\ud800") == "a�[2Jb\n\tc��"


def test_printable_keeps_joined_emoji() -> None:
    assert formatting.printable("👩\u200d🚀") == "👩\u200d🚀"


@pytest.mark.parametrize(
    ("in_flight", "lost", "expected"),
    [
        ([], 0, ""),
        ([12, 14, 9], 0, "3, with 12, 14, 9 in flight"),
        ([12, 1400], 1, "2, with 12, 1,400 in flight; 1 lost"),
        ([7, 3, 12, 4, 5], 2, "5, with 3 to 12 each in flight; 2 lost"),
        ([4] * 16, 0, "16, with 4 each in flight"),
        ([], 3, "0; 3 lost"),
    ],
)
def test_workers_are_named_one_by_one_where_they_are_few(in_flight: list[int], lost: int, expected: str) -> None:
    by_worker = {f"worker {number}": count for number, count in enumerate(in_flight)}
    assert formatting.workers_text(by_worker, lost) == expected
