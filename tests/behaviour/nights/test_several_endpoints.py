"""Nights with several endpoints that fail, recover, run out of quota, refuse the key or answer slowly, while the run is
stopped and killed, the power fails and the disk is full: no promise may be broken, and nothing is sent to an endpoint
that is stopped.

A night replays exactly: ``NIGHTS=123,456-470 pytest tests/behaviour/nights/test_several_endpoints.py -k chosen``.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.behaviour.nights import test_nights
from tests.behaviour.nights.test_nights import blocks, chosen_seeds
from tests.support.nights_several import SeveralNight

EVERYDAY = range(3)
ALL = range(40)

KNOWN_SEEDS = {
    30: "a job that one endpoint made to wait was blamed for the outage of another",
}
"""Seeds that once found an error, and the error."""


play = partial(test_nights.play, kind=SeveralNight)


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
def test_dozens_of_nights_keep_all_promises(seeds: range) -> None:
    for seed in seeds:
        play(seed)
