"""Requests go one at a time until one is not turned away."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from tests.support.scheduler_world import QUICK, World, ask

STEADY = replace(QUICK, first_token_s=0.2, first_token_jitter=0.0)
"""Every response starts after 0.2 s."""


def test_while_all_are_turned_away_they_go_one_at_a_time() -> None:
    ran = World(STEADY).run([ask(number, n="many") for number in range(100)])
    assert ran.exit_code == 3
    assert ran.reason and ran.reason.startswith("the first 20 requests were all rejected: ")
    assert len(ran.sent) == 20
    assert ran.most_in_flight == 1


def test_the_first_that_is_not_lets_all_others_go() -> None:
    wrong = [ask(number, n="many") for number in range(3)]
    right = [ask(number) for number in range(3, 33)]
    ran = World(STEADY).run(wrong + right, concurrency=30)
    times = [at for at, _, _ in ran.sent]
    assert ran.exit_code == 1
    assert len(times) == 33
    assert all(earlier < later for earlier, later in pairwise(times[:5]))
    assert times[4] - times[3] > 0.19
    assert times[-1] - times[4] < 3.0, "side by side, though ever more of them"
