"""Requests are sent one at a time until one is accepted."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from tests.support.scheduler_world import FAST_PROVIDER, World, short_job

STEADY = replace(FAST_PROVIDER, first_token_s=0.2, first_token_jitter=0.0)
"""Every response starts after 0.2 s."""


def test_requests_are_sent_one_at_a_time_while_all_are_rejected() -> None:
    run = World(STEADY).run([short_job(number, n="many") for number in range(100)])
    assert run.exit_code == 3
    assert run.reason and run.reason.startswith("the first 20 requests were all rejected: ")
    assert len(run.sent) == 20
    assert run.max_in_flight == 1


def test_first_accepted_request_lets_all_others_follow() -> None:
    rejected = [short_job(number, n="many") for number in range(3)]
    accepted = [short_job(number) for number in range(3, 33)]
    run = World(STEADY).run(rejected + accepted, concurrency=30)
    times = [at for at, _, _ in run.sent]
    assert run.exit_code == 1
    assert len(times) == 33
    assert all(earlier < later for earlier, later in pairwise(times[:5]))
    assert times[4] - times[3] > 0.19
    assert times[-1] - times[4] < 3.0, "in parallel, though their number grows step by step"
