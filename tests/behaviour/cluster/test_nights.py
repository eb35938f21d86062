"""Nights in which workers send the requests: killed at any call, delayed, cut off, with late replies.

A night replays exactly, as those of ``tests/behaviour/nights`` do.
"""

from __future__ import annotations

import pytest

from tests.behaviour.nights.test_nights import NIGHTS_PER_TEST, play
from tests.support.cluster_world import ClusterNight

EVERYDAY = range(12)
ALL = range(60, 460)


def play_all(seeds: range) -> int:
    """Return how many requests were in flight in workers that were lost."""
    losses = 0
    for seed in seeds:
        night = play(seed, ClusterNight)
        assert isinstance(night, ClusterNight)
        losses += night.losses
    return losses


def test_everyday_nights_with_workers_keep_all_promises() -> None:
    assert play_all(EVERYDAY) > 0


@pytest.mark.slow
@pytest.mark.parametrize("start", ALL[::NIGHTS_PER_TEST])
def test_many_nights_with_workers_keep_all_promises(start: int) -> None:
    play_all(range(start, start + NIGHTS_PER_TEST))


def test_night_with_workers_replays_exactly() -> None:
    one, other = play(7, ClusterNight), play(7, ClusterNight)
    assert one.said == other.said
    assert one.world.log == other.world.log
