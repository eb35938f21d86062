"""Runs at silent limits, at servers that refuse at random, and at servers that charge differently, each with its bound.

The table of all of them is made by ``tests/benchmarks/limit_campaigns.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Literal

from processor.ratelimit.cooldown import FIRST_COOL_DOWN_S
from processor.ratelimit.settings import LimitSettings
from processor.simulator.rate_limiter import LimiterKind
from tests.support.informed_client import InformedClient
from tests.support.limiter_simulation import MEAN_TOKENS, Simulation, job_tokens

SILENT_MINUTES = 10
LATENCY_S = 1.0


def silent(kind: LimiterKind, rate: int, *, given: int | None, seed: int = 1) -> tuple[Simulation, float]:
    """A run at a silent limit, and 1.25 times its least time. ``given``: the concurrency; None: auto."""
    costs = [1] * (SILENT_MINUTES * rate)
    run = Simulation(
        rpm=rate,
        tpm=None,
        kind=kind,
        latency_s=LATENCY_S,
        dialect="none",
        rewrite_retry_after=lambda _: None,
        settings=LimitSettings(concurrency_is_fixed=given is not None),
        concurrency=given or 1_000,
        seed=seed,
    ).run(costs)
    return run, 1.25 * run.server.min_duration_s(costs)


def unlimited(
    share: float | Callable[[float], float], jobs: int, *, given: int | None, latency_s: float, seed: int = 1
) -> tuple[Simulation, float]:
    """A run at a server without limits, which refuses this share at a time of the run, and the bound of its time:
    1.1 times the time of the same run without refusals, and one pause for each refusal."""

    def simulation(refused: float | Callable[[float], float]) -> Simulation:
        return Simulation(
            rpm=None,
            tpm=None,
            latency_s=latency_s,
            dialect="none",
            settings=LimitSettings(concurrency_is_fixed=given is not None),
            concurrency=given or 64,
            random_429_share=refused,
            seed=seed,
        ).run([1] * jobs)

    run, best = simulation(share), simulation(0.0)
    return run, 1.1 * best.last_s + FIRST_COOL_DOWN_S * run.random_429s


def bursts(jobs: int, *, given: int | None, latency_s: float, seed: int) -> tuple[Simulation, float]:
    """A run at a server without limits that refuses all for half a second, once in 200 requests, and the bound: 1.5
    times the time of the same run without refusals, and one pause for each of these times."""
    rng, until = Random(seed), -1.0
    times = 0

    def share(at: float) -> float:
        nonlocal until, times
        if at >= until and rng.random() < 1 / 200:
            until, times = at + 0.5, times + 1
        return 1.0 if at < until else 0.0

    run, _ = unlimited(share, jobs, given=given, latency_s=latency_s, seed=seed)
    best, _ = unlimited(0.0, jobs, given=given, latency_s=latency_s, seed=seed)
    return run, 1.5 * best.last_s + FIRST_COOL_DOWN_S * times


def charging(kind: LimiterKind, rate: int, ratio: float, seed: int = 7) -> tuple[Simulation, float]:
    """A run at a server that charges ``ratio`` times what the limiter expects, and the promised time.

    The promise counts from the least time that the limit allows; or, where no client could keep it that does not see
    when its requests arrive, from the time that one needs which knows all else.
    """
    costs = job_tokens("tpm", rate, max(20, int(5.5 * min(rate, 300) if rate < 3_000 else 2.5 * rate)), seed)
    run = Simulation(rpm=None, tpm=rate * MEAN_TOKENS, kind=kind, token_ratio=lambda _: ratio).run(costs)
    charges = [int(cost * ratio) for cost in costs]
    attainable_s = InformedClient(kind, rate * MEAN_TOKENS).attainable_s(charges)
    promised_s = _promised_s(run, run.server.min_duration_s(charges))
    return run, promised_s if attainable_s <= promised_s else _promised_s(run, attainable_s)


def large(kind: LimiterKind, resource: Literal["requests", "tokens"], latency_s: float) -> tuple[Simulation, float]:
    """A run at an announced limit of 30,000 requests or 150,000,000 tokens a minute, and the promised time."""
    rng = Random(3)
    costs = [1] * 36_000 if resource == "requests" else [rng.randint(2_000, 18_000) for _ in range(18_000)]
    rpm, tpm = (30_000, None) if resource == "requests" else (None, 150_000_000)
    run = Simulation(rpm=rpm, tpm=tpm, kind=kind, latency_s=latency_s, settings=LimitSettings()).run(costs)
    return run, _promised_s(run, run.server.min_duration_s(costs))


def _promised_s(run: Simulation, least_s: float) -> float:
    return 1.02 * least_s + 3 + 1.25 * run.latency_s
