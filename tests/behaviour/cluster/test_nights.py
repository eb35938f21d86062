"""Nights in which workers send the requests: killed at any call, delayed, cut off, with late replies.

A night replays exactly, as those of ``tests/behaviour/nights`` do.
"""

from __future__ import annotations

import pytest

from tests.behaviour.nights.test_nights import NIGHTS_PER_TEST, play
from tests.support.budget_campaign import play as play_budget
from tests.support.cluster_world import ClusterBudgetCampaign, ClusterNight

EVERYDAY = range(5)
ALL = range(160)


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


def test_budget_is_kept_while_workers_are_lost() -> None:
    campaigns = [play_budget(seed, ClusterBudgetCampaign) for seed in range(2)]
    assert any(campaign.stopped_by_budget for campaign in campaigns)


@pytest.mark.slow
def test_budget_is_kept_in_many_runs_while_workers_are_lost() -> None:
    for seed in range(2, 32):
        play_budget(seed, ClusterBudgetCampaign)


@pytest.mark.slow
@pytest.mark.parametrize("start", ALL[::NIGHTS_PER_TEST])
def test_many_nights_with_workers_keep_all_promises(start: int) -> None:
    play_all(range(start, start + NIGHTS_PER_TEST))


def test_request_that_a_worker_sent_unheard_before_the_driver_was_killed_is_counted() -> None:
    play(370, ClusterNight)


def test_night_with_workers_replays_exactly() -> None:
    one, other = play(7, ClusterNight), play(7, ClusterNight)
    assert one.said == other.said
    assert one.world.log == other.world.log
