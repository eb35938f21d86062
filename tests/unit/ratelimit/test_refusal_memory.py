from __future__ import annotations

from random import Random

import pytest

from processor.ratelimit.strategies.refusal_memory import RefusalMemory


def after(*episodes: tuple[int, int, int]) -> RefusalMemory:
    """Each: requests up to the first refusal, behind it, and refused behind it."""
    memory = RefusalMemory()
    for up_to_first, behind, refused_behind in episodes:
        memory.add(up_to_first=up_to_first, behind=behind, refused_behind=refused_behind)
    return memory


@pytest.mark.parametrize(
    ("episodes", "is_limit"),
    [
        ([], False),
        ([(61, 0, 0)], False),
        ([(61, 1, 1)], False),
        ([(301, 5, 5)], True),
        ([(61, 3, 3)], True),
        ([(5, 3, 1)] * 20, False),
        ([(20, 10, 1)] * 20, False),
        ([(3, 5, 2)] * 40, True),
    ],
    ids=[
        "nothing is known",
        "one 429",
        "two 429s",
        "all behind the first of many",
        "three behind the first of some",
        "a fifth everywhere",
        "few everywhere",
        "more than chance refuses",
    ],
)
def test_limit_is_shown_by_refusals_behind_the_first(episodes: list[tuple[int, int, int]], is_limit: bool) -> None:
    assert after(*episodes).shows_limit == is_limit


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_random_refusals_seldom_look_like_a_limit(share: float) -> None:
    rng, mistaken = Random(1), 0
    for _ in range(100):
        memory = RefusalMemory()
        for _ in range(20):
            up_to_first, behind = 1, rng.randint(0, 12)
            while rng.random() >= share:
                up_to_first += 1
            refused = sum(rng.random() < share for _ in range(behind))
            memory.add(up_to_first=up_to_first, behind=behind, refused_behind=refused)
        mistaken += memory.shows_limit
    assert mistaken <= 1


def test_old_episodes_count_less() -> None:
    memory = after(*[(2, 4, 4)] * 5)
    before = memory.refused_share
    for _ in range(200):
        memory.add(up_to_first=50, behind=5, refused_behind=0)
    assert memory.refused_share < before / 10
    assert not memory.shows_limit


def test_more_evidence_may_be_asked_for() -> None:
    memories = RefusalMemory(), RefusalMemory(8.0)
    for memory in memories:
        memory.add(up_to_first=61, behind=2, refused_behind=2)
    assert [memory.shows_limit for memory in memories] == [True, False]
