"""Servers of each kind x bound by requests or tokens x rates x header latencies: refusals, and the last admission.

Run with ``-s`` to see the table. The grid of every day holds the lower rates; ``-m slow`` the rest.
"""

from __future__ import annotations

from random import Random

import pytest

from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.simulator.rate_limit_headers import Dialect, Resource
from processor.simulator.rate_limiter import LimiterKind, ServerRateLimiter
from tests.support.limits_world import JITTER_S, TOKENS, Mode, World, at_random, evenly, jobs, limits

MINUTES = 5.5
HONEST: tuple[LimiterKind, ...] = ("sliding", "minute", "second")
KINDS: tuple[LimiterKind, ...] = (*HONEST, "quantised")
MODES: tuple[Mode, ...] = ("rpm", "tpm", "huge")
LATENCIES_S = (0.2, 2.0, 15.0)
PROMPT_S = 2.0
"""Headers up to this late promise the best time."""

PROMPT = [pytest.param(0.2, marks=pytest.mark.slow), PROMPT_S]

LATE_S = 0.25
"""The share by which a header may be later than its usual latency."""


def row(world: World, mode: Mode, rate: int, ideal_s: float) -> None:
    print(
        f"{rate:5d}/min  {mode:4s}  {world.kind:9s}  headers {world.latency_s:4.1f} s  ideal {ideal_s:7.1f} s"
        f"  last {world.last_s:7.1f} s  x{world.last_s / max(ideal_s, 1):.3f}"
        f"  refused {world.refused} of {world.attempts}"
    )


def promised_s(world: World, ideal_s: float) -> float:
    return 1.02 * ideal_s + 3 + (1 + LATE_S) * world.latency_s


def evenly_s(costs: list[int], mode: Mode, rate: int, kind: LimiterKind, ideal_s: float) -> float:
    """What even pacing needs, a little under the limit. In a window large jobs leave gaps for everybody."""
    limit = rate if mode == "rpm" else rate * TOKENS
    pauses_s = 5 if kind == "quantised" else 2
    return max(60 * sum(costs) / limit * 1.01, 1.07 * ideal_s if mode == "huge" and kind == "sliding" else 0) + pauses_s


def jitters_s(costs: list[int], mode: Mode, rate: int, kind: LimiterKind) -> float:
    """What no client can avoid: a bucket of one second must be full for a request that is as large as it, and that
    the last one arrived late shows to nobody."""
    if kind not in ("second", "quantised"):
        return 0.0
    second = rate / 60 if mode == "rpm" else rate * TOKENS / 60
    return 1.05 * JITTER_S * sum(cost > second * (1 - JITTER_S) for cost in costs)


def used(referee: ServerRateLimiter, mode: Mode, from_s: float, to_s: float) -> float:
    """A minute, on average."""
    return referee.log.used_between("requests" if mode == "rpm" else "tokens", from_s, to_s) / (to_s - from_s) * 60


def check(kind: LimiterKind, mode: Mode, rate: int, latency_s: float, *, dialect: Dialect = "openai") -> None:
    costs = jobs(mode, rate, int(MINUTES * rate))
    rpm, tpm = limits(mode, rate)
    world = World(rpm=rpm, tpm=tpm, kind=kind, latency_s=latency_s, dialect=dialect).run(costs)
    ideal_s = world.referee.min_duration_s(costs)
    row(world, mode, rate, ideal_s)
    assert world.refused <= (0.01 * world.attempts if kind == "quantised" else 0)
    even_s = evenly_s(costs, mode, rate, kind, ideal_s)
    allowed_s = promised_s(world, ideal_s) if latency_s <= PROMPT_S else max(even_s, promised_s(world, ideal_s))
    assert world.last_s <= allowed_s + jitters_s(costs, mode, rate, kind)


@pytest.mark.parametrize("latency_s", LATENCIES_S)
@pytest.mark.parametrize(
    "rate", [pytest.param(60, marks=pytest.mark.slow), 120, pytest.param(300, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("mode", ["rpm", "tpm", pytest.param("huge", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_is_used_and_never_exceeded(kind: LimiterKind, mode: Mode, rate: int, latency_s: float) -> None:
    check(kind, mode, rate, latency_s)


@pytest.mark.parametrize(("mode", "rate"), [("rpm", 60), ("tpm", 60), ("huge", 300)])
@pytest.mark.parametrize("kind", KINDS)
def test_few_and_large_jobs_fare_no_worse(kind: LimiterKind, mode: Mode, rate: int) -> None:
    check(kind, mode, rate, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("latency_s", LATENCIES_S)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_is_used_at_three_thousand_a_minute(kind: LimiterKind, mode: Mode, latency_s: float) -> None:
    check(kind, mode, 3000, latency_s)


@pytest.mark.slow
@pytest.mark.parametrize("latency_s", PROMPT)
@pytest.mark.parametrize("mode", ["rpm", "tpm"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_hour_keeps_to_it(kind: LimiterKind, mode: Mode, latency_s: float) -> None:
    costs = jobs(mode, 300, 60 * 300)
    rpm, tpm = limits(mode, 300)
    world = World(rpm=rpm, tpm=tpm, kind=kind, latency_s=latency_s).run(costs)
    ideal_s = world.referee.min_duration_s(costs)
    row(world, mode, 300, ideal_s)
    # After an hour it is tried once more whether it has changed.
    assert world.refused <= (0.001 * world.attempts if kind == "quantised" else 0)
    assert world.last_s <= 1.005 * ideal_s + 3 + 2 * latency_s


@pytest.mark.parametrize("dialect", ["anthropic", "azure"])
@pytest.mark.parametrize("kind", ["sliding", "minute"])
def test_every_dialect_is_understood(kind: LimiterKind, dialect: Dialect) -> None:
    check(kind, "tpm", 60, 0.2, dialect=dialect)


@pytest.mark.parametrize("latency_s", PROMPT)
@pytest.mark.parametrize("kind", HONEST)
def test_what_one_minute_holds_goes_at_once_where_the_server_allows_it(kind: LimiterKind, latency_s: float) -> None:
    world = World(rpm=300, tpm=None, kind=kind, latency_s=latency_s).run([1] * 300)
    assert world.refused == 0
    assert world.last_s <= promised_s(world, world.referee.min_duration_s([1] * 300))


@pytest.mark.parametrize("latency_s", PROMPT)
@pytest.mark.parametrize("kind", KINDS)
def test_without_configured_limits_they_are_learned_from_the_first_response(
    kind: LimiterKind, latency_s: float
) -> None:
    world = World(rpm=300, tpm=None, kind=kind, latency_s=latency_s, settings=LimitSettings()).run([1] * 1650)
    assert world.refused <= (16 if kind == "quantised" else 3)
    assert world.last_s <= promised_s(world, world.referee.min_duration_s([1] * 1650)) + 4


@pytest.mark.parametrize(
    ("rpm", "tpm"),
    [
        (120, 18_000),
        pytest.param(300, 45_000, marks=pytest.mark.slow),
        pytest.param(300, 90_000, marks=pytest.mark.slow),
        pytest.param(600, 45_000, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("latency_s", PROMPT)
@pytest.mark.parametrize("kind", KINDS)
def test_limits_on_requests_and_tokens_hold_together(kind: LimiterKind, latency_s: float, rpm: int, tpm: int) -> None:
    costs = jobs("tpm", 300, 1650)
    world = World(rpm=rpm, tpm=tpm, kind=kind, latency_s=latency_s).run(costs)
    assert world.refused <= (16 if kind == "quantised" else 0)
    even_s = 60 * max(len(costs) / rpm, sum(costs) / tpm)
    assert world.last_s <= max(promised_s(world, world.referee.min_duration_s(costs)), 1.005 * even_s + 2)


# ------------------------------------------------------------ a server that says nothing


@pytest.mark.parametrize("rate", [60, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", HONEST)
def test_a_silent_server_is_paced_and_no_window_holds_more(kind: LimiterKind, mode: Mode, rate: int) -> None:
    costs = jobs(mode, rate, int(MINUTES * rate))
    rpm, tpm = limits(mode, rate)
    world = World(rpm=rpm, tpm=tpm, kind=kind, latency_s=2.0, dialect="none").run(costs)
    log = world.referee.log
    resource: Resource = "requests" if mode == "rpm" else "tokens"
    # A bucket of one second that holds one request cannot be told from a window, and used to 99 %, but by a refusal.
    assert world.refused <= (1 if kind == "second" and rate == 60 else 0)
    assert log.max_in_window(resource) <= (rpm or tpm or 0)
    if not (kind == "second" and rate == 60):
        largest = max(costs) if mode != "rpm" else 0
        assert used(world.referee, mode, 5.0, world.last_s) >= 0.99 * (rpm or tpm or 0) - largest


@pytest.mark.parametrize("kind", HONEST)
def test_eighteen_hundred_jobs_at_six_hundred_a_minute_without_one_refusal(kind: LimiterKind) -> None:
    world = World(rpm=600, tpm=None, kind=kind, dialect="none").run([1] * 1800)
    assert world.refused == 0
    assert world.referee.log.max_in_window("requests") <= 600
    assert world.last_s <= 180 / 0.99


# ------------------------------------------------------------ configured otherwise than granted


@pytest.mark.parametrize("mode", ["rpm", "tpm"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_lower_limit_is_a_ceiling_without_bursts(kind: LimiterKind, mode: Mode) -> None:
    costs = jobs(mode, 300, 900)
    rpm, tpm = limits(mode, 600)
    asked = RateLimits(rpm=300 if rpm else None, tpm=300 * TOKENS if tpm else None)
    world = World(rpm=rpm, tpm=tpm, kind=kind, settings=LimitSettings(default=asked)).run(costs)
    log = world.referee.log
    resource: Resource = "requests" if rpm else "tokens"
    ceiling = 300 if rpm else 300 * TOKENS
    assert world.refused == 0
    assert log.max_in_window(resource) <= ceiling
    assert log.max_in_window(resource, width_s=1.0) <= ceiling / 60 * 1.5 + 2 * max(costs)
    assert world.last_s <= 60 * sum(costs) / ceiling / 0.99


@pytest.mark.parametrize("kind", ["sliding", "minute"])
def test_a_limit_that_differs_by_less_than_a_percent_is_the_servers(kind: LimiterKind) -> None:
    settings = LimitSettings(default=RateLimits(rpm=298))
    world = World(rpm=300, tpm=None, kind=kind, settings=settings).run([1] * 900)
    assert world.refused == 0
    assert world.last_s <= promised_s(world, world.referee.min_duration_s([1] * 900))


@pytest.mark.parametrize("latency_s", PROMPT)
@pytest.mark.parametrize("kind", HONEST)
def test_a_higher_limit_gives_way_to_the_servers(kind: LimiterKind, latency_s: float) -> None:
    settings = LimitSettings(default=RateLimits(rpm=3000))
    world = World(rpm=300, tpm=None, kind=kind, settings=settings, latency_s=latency_s).run([1] * 1650)
    assert world.refused <= 8
    assert world.last_s <= promised_s(world, world.referee.min_duration_s([1] * 1650)) + 3


# ------------------------------------------------------------ a server that changes, or has others to serve


def change(rpm: int | None, tpm: int | None, at: float) -> list[tuple[float, object]]:
    return [(at, lambda referee: referee.set_limits(at, rpm=rpm, tpm=tpm))]


@pytest.mark.parametrize("latency_s", PROMPT)
@pytest.mark.parametrize("mode", ["rpm", "tpm"])
@pytest.mark.parametrize("kind", HONEST)
def test_a_limit_that_is_halved_is_settled_on_within_two_windows(
    kind: LimiterKind, mode: Mode, latency_s: float
) -> None:
    rpm, tpm = limits(mode, 300)
    script = change(rpm and rpm // 2, tpm and tpm // 2, 100.0)
    world = World(rpm=rpm, tpm=tpm, kind=kind, latency_s=latency_s, script=script)  # type: ignore[arg-type]
    world.run(jobs(mode, 300, 1650))
    assert world.refused <= 0.01 * world.attempts
    assert used(world.referee, mode, 220, min(460.0, world.last_s)) >= 0.9 * (rpm or tpm or 0) / 2


@pytest.mark.parametrize("latency_s", PROMPT)
@pytest.mark.parametrize("mode", ["rpm", "tpm"])
@pytest.mark.parametrize("kind", HONEST)
def test_a_limit_that_is_doubled_is_settled_on_within_two_windows(
    kind: LimiterKind, mode: Mode, latency_s: float
) -> None:
    rpm, tpm = limits(mode, 300)
    script = change(rpm and rpm * 2, tpm and tpm * 2, 100.0)
    world = World(rpm=rpm, tpm=tpm, kind=kind, latency_s=latency_s, script=script, settings=LimitSettings())  # type: ignore[arg-type]
    world.run(jobs(mode, 300, 2400))
    assert world.refused <= 0.01 * world.attempts
    assert used(world.referee, mode, 180, min(340.0, world.last_s)) >= 0.95 * (rpm or tpm or 0) * 2


@pytest.mark.parametrize("since_s", [pytest.param(0.0, marks=pytest.mark.slow), 100.0])
@pytest.mark.parametrize("latency_s", PROMPT)
@pytest.mark.parametrize("mode", ["rpm", "tpm"])
@pytest.mark.parametrize("kind", HONEST)
def test_another_program_that_takes_half_costs_few_refusals(
    kind: LimiterKind, mode: Mode, latency_s: float, since_s: float
) -> None:
    rpm, tpm = limits(mode, 300)
    others = evenly(150, since_s, 3000, tokens=TOKENS)
    world = World(rpm=rpm, tpm=tpm, kind=kind, latency_s=latency_s, others=others).run(jobs(mode, 300, 1650))
    assert world.refused <= 0.01 * world.attempts
    assert used(world.referee, mode, since_s + 120, world.last_s) >= 0.4 * (rpm or tpm or 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
@pytest.mark.parametrize("latency_s", PROMPT)
@pytest.mark.parametrize("mode", ["rpm", "tpm"])
@pytest.mark.parametrize("kind", HONEST)
def test_a_program_that_comes_and_goes_costs_few_refusals_too(
    kind: LimiterKind, mode: Mode, latency_s: float, seed: int
) -> None:
    rpm, tpm = limits(mode, 300)
    others = at_random(150, 3000, seed, tokens=TOKENS)
    world = World(rpm=rpm, tpm=tpm, kind=kind, latency_s=latency_s, others=others, seed=seed)
    world.run(jobs(mode, 300, 1650, seed))
    assert world.refused <= 0.03 * world.attempts


def test_a_run_that_follows_another_waits_for_what_that_one_used() -> None:
    world = World(rpm=300, tpm=None, kind="sliding", others=[(0.0, 1)] * 200).run([1] * 900)
    assert world.refused == 0
    # 181 s at best; what the other one used leaves all at once, and may be noticed some seconds later.
    assert world.last_s <= 195


# ------------------------------------------------------------ a server that charges otherwise


@pytest.mark.parametrize("ratio", [0.6, *(pytest.param(ratio, marks=pytest.mark.slow) for ratio in (0.9, 1.15)), 1.5])
@pytest.mark.parametrize("latency_s", PROMPT)
@pytest.mark.parametrize("kind", HONEST)
def test_what_the_server_really_charges_is_learned(kind: LimiterKind, latency_s: float, ratio: float) -> None:
    costs = jobs("tpm", 300, 1650)
    world = World(rpm=None, tpm=45_000, kind=kind, latency_s=latency_s, ratio=lambda _: ratio).run(costs)
    assert world.refused <= 0.01 * world.attempts
    ideal_s = world.referee.min_duration_s([int(cost * ratio) for cost in costs])
    slower = 1.75 if kind == "second" and ratio < 1 else 1.2
    assert world.last_s <= slower * ideal_s + 5 + latency_s


@pytest.mark.parametrize("kind", HONEST)
def test_charges_that_vary_cost_few_refusals(kind: LimiterKind) -> None:
    def ratio(rng: Random) -> float:
        return rng.uniform(0.7, 1.3)

    world = World(rpm=None, tpm=45_000, kind=kind, ratio=ratio).run(jobs("tpm", 300, 1650))
    assert world.refused <= 0.01 * world.attempts


# ------------------------------------------------------------ the network, and slots


@pytest.mark.parametrize("latency_s", PROMPT)
@pytest.mark.parametrize("kind", KINDS)
def test_few_slots_change_nothing_but_the_time(kind: LimiterKind, latency_s: float) -> None:
    world = World(rpm=300, tpm=None, kind=kind, latency_s=latency_s, concurrency=64).run([1] * 900)
    assert world.refused <= (9 if kind == "quantised" else 0)


@pytest.mark.parametrize("latency_s", PROMPT)
def test_refusals_that_come_late_teach_the_same(latency_s: float) -> None:
    world = World(rpm=300, tpm=None, kind="quantised", latency_s=latency_s, slow_refusals=True).run([1] * 1650)
    assert world.refused <= 0.01 * world.attempts


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_does_not_count_refused_requests(kind: LimiterKind) -> None:
    world = World(rpm=300, tpm=None, kind=kind, count_throttled=False).run([1] * 900)
    assert world.refused <= (9 if kind == "quantised" else 0)
    assert world.last_s <= promised_s(world, world.referee.min_duration_s([1] * 900))


def poor_line(rng: Random) -> float:
    """Three requests in a hundred are on their way for up to 0.4 s: a busy machine, or packets sent again."""
    return rng.uniform(JITTER_S, 0.4) if rng.random() < 0.03 else rng.uniform(0, JITTER_S)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))])
@pytest.mark.parametrize("minutes", [1.5, MINUTES])
@pytest.mark.parametrize("mode", ["rpm", "tpm"])
@pytest.mark.parametrize("kind", KINDS)
def test_requests_that_arrive_late_cost_few_refusals_and_no_burst(
    kind: LimiterKind, mode: Mode, minutes: float, seed: int
) -> None:
    costs = jobs(mode, 300, int(300 * minutes))
    rpm, tpm = limits(mode, 300)
    world = World(rpm=rpm, tpm=tpm, kind=kind, latency_s=0.35, way=poor_line, seed=seed).run(costs)
    ideal_s = world.referee.min_duration_s(costs)
    row(world, mode, 300, ideal_s)
    assert world.refused <= 2 + 0.01 * world.attempts
    assert world.last_s <= promised_s(world, ideal_s)


@pytest.mark.parametrize("kind", HONEST)
def test_first_in_is_first_out_whatever_the_sizes(kind: LimiterKind) -> None:
    costs = jobs("huge", 300, 600)
    world = World(rpm=None, tpm=300 * TOKENS, kind=kind).run(costs)
    assert world.refused == 0
    assert world.sent == costs
