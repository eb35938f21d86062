"""Limits on the tokens of prompts and of replies apart, as the Messages API has them: both used, none exceeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any, Literal

import pytest

from processor.core.models import JSON
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.simulator.rate_limiter import LimiterKind
from processor.simulator.settings import SimulatorSettings
from tests.support.scheduler_world import FAST_PROVIDER, RunRecord, World
from tests.support.slow_cases import slow_except

HEADER_LATENCY_S = 0.5

LIKE_SERVER = ["the", "map", "of", "our", "sea", "and", "a", "old", "boat", "went", "to", "red"]
"""Words of which this program counts about as many tokens as the simulator."""
UNDERESTIMATED = ["river", "stone", "music", "winter", "window", "garden", "letter", "bread"]
"""Words of which it counts a third less."""

Bound = Literal["input", "output", "both"]
LIMITS: dict[Bound, tuple[int, int]] = {"input": (20_000, 100_000), "output": (200_000, 4_000), "both": (20_000, 4_000)}
"""Tokens of prompts and of replies a minute."""


def messages(number: int, bound: Bound, words: list[str]) -> Iterator[JSON]:
    """Jobs whose replies are all cut by ``max_tokens``: what is reserved is used."""
    rng = Random(number)
    shortest, longest = (40, 120) if bound == "output" else (400, 1200)
    for at in range(number):
        text = f"Question {at}? " + " ".join(rng.choices(words, k=rng.randint(shortest, longest) // 5))
        body = {"model": "m", "max_tokens": rng.randint(20, 60), "messages": [{"role": "user", "content": text}]}
        yield {"id": f"job-{at}", "url": "/v1/messages", "body": body}


def server(kind: LimiterKind, bound: Bound, **more: Any) -> SimulatorSettings:
    input_tpm, output_tpm = LIMITS[bound]
    limited = replace(FAST_PROVIDER, kind=kind, dialect="anthropic", charging="used", reply_tokens=(500, 500))
    return replace(limited, input_tpm=input_tpm, output_tpm=output_tpm, **more)


def least_s(world: World, jobs: list[JSON]) -> float:
    """The least time that the limits allow."""
    costs = [
        {
            "input_tokens": -(-len(job["body"]["messages"][0]["content"]) // 4),
            "output_tokens": job["body"]["max_tokens"],
        }
        for job in jobs
    ]
    return world.provider.rate_limiter.min_duration_s(costs)  # type: ignore[arg-type]


def check_promise(world: World, run: RunRecord, jobs: list[JSON], *, refused: float = 0.01) -> None:
    """``refused``: the share that may be. The server counts prompts by a rule of its own, so that the last request of a
    burst may be one too many."""
    assert (run.exit_code, len(world.replied())) == (0, len(jobs))
    assert world.provider.billing.statuses[429] <= refused * len(jobs)
    assert run.sent[-1][0] <= 1.02 * least_s(world, jobs) + 3 + HEADER_LATENCY_S


KINDS: list[LimiterKind] = ["minute", "sliding"]
CASES = [(kind, bound) for kind in KINDS for bound in LIMITS]


@pytest.mark.parametrize("case", slow_except(CASES, ("sliding", "both")), ids="-".join)
def test_both_limits_are_used_and_none_is_exceeded(case: tuple[LimiterKind, Bound]) -> None:
    kind, bound = case
    world, jobs = World(server(kind, bound)), list(messages(400, bound, LIKE_SERVER))
    check_promise(world, world.run(jobs, concurrency=5000, limits=LimitSettings(charging="used")), jobs)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_prompts_estimated_a_third_too_low_cost_one_burst_at_most(case: tuple[LimiterKind, Bound]) -> None:
    """A few large requests do not show how the server counts before the first burst is sent."""
    kind, bound = case
    world, jobs = World(server(kind, bound)), list(messages(400, bound, UNDERESTIMATED))
    run = world.run(jobs, concurrency=5000, limits=LimitSettings(charging="used"))
    check_promise(world, run, jobs, refused=0.08)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_configured_limits_are_used_likewise(case: tuple[LimiterKind, Bound]) -> None:
    kind, bound = case
    world, jobs = World(server(kind, bound)), list(messages(400, bound, LIKE_SERVER))
    input_tpm, output_tpm = LIMITS[bound]
    limits = LimitSettings(charging="used", default=RateLimits(input_tpm=input_tpm, output_tpm=output_tpm))
    check_promise(world, world.run(jobs, concurrency=5000, limits=limits), jobs)


def test_what_replies_leave_of_their_reservation_is_used_by_others() -> None:
    """Each job may have 500 tokens and uses 40: by what is reserved the run would take 24 minutes."""
    provider = replace(server("minute", "output"), output_tpm=8000, reply_tokens=(20, 80))
    world, jobs = World(provider), list(messages(400, "output", LIKE_SERVER))
    for job in jobs:
        job["body"]["max_tokens"] = 500
    run = world.run(jobs, concurrency=5000, limits=LimitSettings(charging="used"))
    assert (run.exit_code, len(world.replied())) == (0, 400)
    assert world.provider.billing.statuses[429] <= 4
    used = sum(row["response"]["body"]["usage"]["output_tokens"] for row in world.rows())
    assert run.sent[-1][0] <= 1.3 * 60 * (used - 8000 + 1500) / 8000, "1500 are reserved by the requests in flight"
