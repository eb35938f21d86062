"""Thousands of nights, each from a seed, and not one promise broken.

A night that fails replays exactly: ``pytest tests/nights -k seed_123``, or any other, failed or not:
``NIGHTS=123,456-470 pytest tests/nights -k asked``.
"""

from __future__ import annotations

import os

import pytest

from tests.support.nights_night import Night

EVERYDAY = range(60)
ALL = range(60, 2200)
NIGHTS_PER_TEST = 20

BROKE = {
    2: "attempts counted that never sent anything",
    3: "two limit groups that waited for slots woke each other forever",
    18: "attempts counted that never sent anything, in a run that ended by itself",
    43: "of two limit groups that waited for a slot none was woken",
    216: "rows that a killed run had left unsynced were lost after a second kill",
    329: "a row that goes over into zeros was taken for another program's file",
    7580: "a results file whose name was never synced was lost with all its rows",
    852: "attempts counted that were broken off while they were still connecting",
    668: "attempts were forgotten where a changed job was sent again and failed",
}
"""Seeds that have found something, and what."""


def of_environment() -> list[int]:
    """The seeds that ``NIGHTS`` asks for: ``3``, ``3,5``, ``3-99``; one for want of any."""
    found: list[int] = []
    for part in filter(None, os.environ.get("NIGHTS", "").split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found or [0]


def play(seed: int) -> Night:
    night = Night(seed)
    try:
        return night.play()
    except BaseException as error:
        error.add_note("\n".join((f"seed {seed}", *night.said)))
        raise


def blocks(seeds: range) -> list[range]:
    return [seeds[at : at + NIGHTS_PER_TEST] for at in range(0, len(seeds), NIGHTS_PER_TEST)]


@pytest.mark.parametrize("seed", BROKE, ids=lambda seed: f"seed_{seed}")
def test_a_night_that_once_broke_a_promise(seed: int) -> None:
    play(seed)


@pytest.mark.parametrize("seed", of_environment(), ids=lambda seed: f"seed_{seed}")
def test_a_night_that_was_asked_for(seed: int) -> None:
    play(seed)


@pytest.mark.parametrize("seeds", blocks(EVERYDAY), ids=lambda seeds: f"{seeds[0]}_to_{seeds[-1]}")
def test_no_night_breaks_a_promise(seeds: range) -> None:
    for seed in seeds:
        play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", blocks(ALL), ids=lambda seeds: f"{seeds[0]}_to_{seeds[-1]}")
def test_no_night_of_thousands_breaks_a_promise(seeds: range) -> None:
    for seed in seeds:
        play(seed)


@pytest.mark.parametrize("seed", [5, 22, 41])
def test_a_night_replays_exactly(seed: int) -> None:
    one, other = play(seed), play(seed)
    assert one.said == other.said
    assert one.world.log == other.world.log
    assert one.world.disk.names.keys() == other.world.disk.names.keys()
    for path in one.world.disk.names:
        assert one.world.disk.contents(path) == other.world.disk.contents(path)
