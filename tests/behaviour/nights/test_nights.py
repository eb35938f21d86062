"""Nights with all kinds of disturbances, each made from a seed, in which no promise may be broken.

A night replays exactly: ``pytest tests/behaviour/nights -k seed_123`` for a known one, and any other with
``NIGHTS=123,456-470 pytest tests/behaviour/nights -k chosen``.
"""

from __future__ import annotations

import os

import pytest

from tests.support.nights_night import Night

EVERYDAY = range(10)
ALL = range(1200)
NIGHTS_PER_TEST = 20

KNOWN_SEEDS = {
    2: "counted attempts that sent nothing",
    3: "two limit groups that waited for slots woke each other forever",
    18: "counted attempts that sent nothing, in a run that ended by itself",
    43: "of two limit groups that waited for a slot none was woken",
    216: "unsynced rows of a killed run were lost after a second kill",
    329: "a row that ends in zero bytes was taken for another file format",
    7580: "a results file whose name was never synced was lost with all its rows",
    852: "counted attempts that were cancelled while connecting",
    668: "attempts of a changed job were lost when it was sent again and failed",
}
"""Seeds that once found an error, and the error."""


def chosen_seeds() -> list[int]:
    """The seeds in ``NIGHTS``, such as ``3``, ``3,5`` or ``3-99``; seed 0 by default."""
    found: list[int] = []
    for part in filter(None, os.environ.get("NIGHTS", "").split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found or [0]


def play(seed: int, kind: type[Night] = Night) -> Night:
    night = kind(seed)
    try:
        return night.play()
    except BaseException as error:
        error.add_note("\n".join((f"seed {seed}", *night.said)))
        raise


def blocks(seeds: range) -> list[range]:
    return [seeds[at : at + NIGHTS_PER_TEST] for at in range(0, len(seeds), NIGHTS_PER_TEST)]


@pytest.mark.parametrize("seed", KNOWN_SEEDS, ids=lambda seed: f"seed_{seed}")
def test_known_seed_keeps_all_promises(seed: int) -> None:
    play(seed)


@pytest.mark.parametrize("seed", chosen_seeds(), ids=lambda seed: f"seed_{seed}")
def test_chosen_seed_keeps_all_promises(seed: int) -> None:
    play(seed)


@pytest.mark.parametrize("seeds", blocks(EVERYDAY), ids=lambda seeds: f"{seeds[0]}_to_{seeds[-1]}")
def test_everyday_nights_keep_all_promises(seeds: range) -> None:
    for seed in seeds:
        play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", blocks(ALL), ids=lambda seeds: f"{seeds[0]}_to_{seeds[-1]}")
def test_many_nights_keep_all_promises(seeds: range) -> None:
    for seed in seeds:
        play(seed)


@pytest.mark.parametrize("seed", [5, 22, 41])
def test_night_replays_exactly(seed: int) -> None:
    one, other = play(seed), play(seed)
    assert one.said == other.said
    assert one.world.log == other.world.log
    assert one.world.disk.names.keys() == other.world.disk.names.keys()
    for path in one.world.disk.names:
        assert one.world.disk.contents(path) == other.world.disk.contents(path)
