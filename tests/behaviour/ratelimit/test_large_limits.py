"""Large limits, and many at once: 30,000 requests a minute, 150,000,000 tokens, 50 models with limits of their own."""

from __future__ import annotations

from random import Random
from typing import Literal

import pytest

from processor.ratelimit.settings import LimitSettings
from processor.simulator.rate_limiter import LimiterKind
from tests.support.limit_campaigns import large
from tests.support.limiter_simulation import Simulation
from tests.support.many_models import ManyModels
from tests.support.slow_cases import slow_except

KINDS: tuple[LimiterKind, ...] = ("sliding", "minute", "second")
ANNOUNCED = LimitSettings()
"""Nothing is configured: the server names its limits."""


def check(run: Simulation, costs: list[int]) -> None:
    assert run.throttled == 0
    assert run.last_s <= 1.02 * run.server.min_duration_s(costs) + 3 + 1.25 * run.latency_s


@pytest.mark.parametrize("rpm", [12_000, pytest.param(30_000, marks=pytest.mark.slow)])
def test_bucket_of_one_second_is_found_while_many_requests_are_unanswered(rpm: int) -> None:
    """Most of what was sent shortly before a request may have been counted after it, so that headers of one moment do
    not show how the server counts."""
    costs = [1] * int(0.35 * rpm)
    check(Simulation(rpm=rpm, tpm=None, kind="second", latency_s=2.0, settings=ANNOUNCED).run(costs), costs)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [ANNOUNCED, None], ids=["announced", "configured"])
@pytest.mark.parametrize("latency_s", [0.2, 2.0])
@pytest.mark.parametrize("rpm", [10_000, 30_000])
@pytest.mark.parametrize("kind", KINDS)
def test_large_limit_on_requests_is_used_fully_and_never_exceeded(
    kind: LimiterKind, rpm: int, latency_s: float, settings: LimitSettings | None
) -> None:
    costs = [1] * int(1.2 * rpm)
    check(Simulation(rpm=rpm, tpm=None, kind=kind, latency_s=latency_s, settings=settings).run(costs), costs)


@pytest.mark.slow
@pytest.mark.parametrize("latency_s", [0.2, 2.0])
@pytest.mark.parametrize("kind", ["sliding", "minute"])
def test_large_limit_on_tokens_is_used_fully_and_never_exceeded(kind: LimiterKind, latency_s: float) -> None:
    rng = Random(3)
    costs = [rng.randint(2_000, 18_000) for _ in range(18_000)]
    run = Simulation(rpm=None, tpm=150_000_000, kind=kind, latency_s=latency_s, settings=ANNOUNCED).run(costs)
    check(run, costs)


@pytest.mark.slow
@pytest.mark.parametrize("latency_s", [5.0, 10.0])
@pytest.mark.parametrize("kind", ["minute", "second", "quantised"])
@pytest.mark.parametrize("resource", ["requests", "tokens"])
def test_large_limit_is_used_where_replies_are_slow(
    resource: Literal["requests", "tokens"], kind: LimiterKind, latency_s: float
) -> None:
    """Windows are in the table of ``limit_campaigns large``: docs/rate-limiting.md derives what they need."""
    run, bound_s = large(kind, resource, latency_s)
    assert run.throttled <= max(1, 0.001 * run.attempts)
    assert run.last_s <= bound_s


@pytest.mark.parametrize("dispatched", slow_except([False, True], True), ids=["one endpoint", "dispatcher"])
@pytest.mark.parametrize("scale", slow_except([1, 12], 1))
def test_fifty_models_of_one_file_use_their_limits_as_if_each_were_alone(scale: int, dispatched: bool) -> None:
    """A bucket of one second that holds one request, and a limit below 8, take some seconds more, also alone."""
    kinds = KINDS if scale > 1 else KINDS[:2]
    limits = {f"m{at}": (kinds[at % len(kinds)], scale * (8 + at)) for at in range(50)}
    run = ManyModels(limits=limits, minutes=1.2, dispatched=dispatched).run()
    throttled = [run.throttled(model) for model in limits]
    assert max(throttled) <= 1 and sum(throttled) <= 0.001 * sum(run.jobs.values())
    late = {model: (run.last_s(model), run.promised_s(model)) for model in limits}
    assert {model: times for model, times in late.items() if times[0] > times[1]} == {}
