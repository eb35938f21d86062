"""Servers whose headers lie, fall silent, or change their minds; refusals that say nothing; a machine that sleeps.

At two a second, so that a run is cheap; headers are two seconds late unless a test says otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from processor.ratelimit.cooldown import FIRST_COOL_DOWN_S
from processor.ratelimit.settings import LimitSettings
from processor.simulator.rate_limiter import LimiterKind, ServerRateLimiter
from processor.simulator.virtual_clock import VirtualLoop
from tests.support.limits_world import Mode, Says, World, jobs, limits

HONEST: tuple[LimiterKind, ...] = ("sliding", "minute", "second")
RATE, MINUTES = 120, 5.5
COUNT = int(RATE * MINUTES)
EVENLY_S = 60 * MINUTES * 1.01 + 2

LATENCIES_S = [pytest.param(0.2, marks=pytest.mark.slow), 2.0, pytest.param(15.0, marks=pytest.mark.slow)]
everywhere = [
    pytest.mark.parametrize("kind", HONEST),
    pytest.mark.parametrize("latency_s", LATENCIES_S),
]


def on_every_server(test: Callable[..., None]) -> Callable[..., None]:
    for mark in everywhere:
        test = mark(test)
    return test


def put(**values: object) -> Says:
    """Writes these into the headers, whatever the server wrote. None: leaves out."""
    named = {f"x-ratelimit-{name.replace('_', '-')}": value for name, value in values.items()}

    def says(at: float, headers: dict[str, str]) -> dict[str, str]:
        written = {**headers, **named}
        return {name: str(value) for name, value in written.items() if value is not None}

    return says


def meanwhile(since: float, until: float, says: Says) -> Says:
    return lambda at, headers: says(at, headers) if since <= at < until else headers


def world(kind: LimiterKind, latency_s: float, mode: Mode = "rpm", **more: object) -> World:
    rpm, tpm = limits(mode, RATE)
    ran = World(rpm=rpm, tpm=tpm, kind=kind, latency_s=latency_s, **more)  # type: ignore[arg-type]
    return ran.run(jobs(mode, RATE, COUNT))


def is_paced(ran: World, *, within: float = 1.0) -> None:
    """Not one refusal, and no slower than even pacing, or by this factor."""
    assert ran.refused == 0
    assert ran.last_s <= within * EVENLY_S


# ------------------------------------------------------------ lies


@on_every_server
def test_more_that_remains_than_the_limit_is_not_believed(kind: LimiterKind, latency_s: float) -> None:
    is_paced(world(kind, latency_s, says=put(remaining_requests=10_000)))


@on_every_server
def test_nor_for_half_a_minute(kind: LimiterKind, latency_s: float) -> None:
    is_paced(world(kind, latency_s, says=meanwhile(100, 130, put(remaining_requests=10_000))))


@pytest.mark.parametrize("reset", ["2020-01-01T00:00:00Z", "0s", "-5", "soon", "9999h"])
@pytest.mark.parametrize("kind", HONEST)
def test_a_reset_that_makes_no_sense_changes_nothing(kind: LimiterKind, reset: str) -> None:
    ran = world(kind, 2.0, says=put(reset_requests=reset))
    is_paced(ran)
    assert ran.last_s <= 1.02 * ran.referee.min_duration_s([1] * COUNT) + 6


@pytest.mark.parametrize("nothing", [0, -1])
@pytest.mark.parametrize("mode", ["rpm", "tpm"])
@on_every_server
def test_limits_of_nothing_in_the_middle_of_a_run_do_not_stop_it(
    kind: LimiterKind, latency_s: float, mode: Mode, nothing: int
) -> None:
    what = "requests" if mode == "rpm" else "tokens"
    lie = put(**{f"limit_{what}": nothing, f"remaining_{what}": nothing})
    is_paced(world(kind, latency_s, mode, says=meanwhile(100, 160, lie)), within=1.3)


@pytest.mark.parametrize("mode", ["rpm", "tpm"])
@on_every_server
def test_nothing_that_remains_for_three_minutes_does_not_stop_it(
    kind: LimiterKind, latency_s: float, mode: Mode
) -> None:
    what = "requests" if mode == "rpm" else "tokens"
    ran = world(kind, latency_s, mode, says=meanwhile(60, 240, put(**{f"remaining_{what}": 0})))
    assert ran.refused <= 0.01 * ran.attempts
    assert ran.last_s <= 1.4 * EVENLY_S


@on_every_server
def test_nor_does_nothing_that_remains_ever(kind: LimiterKind, latency_s: float) -> None:
    ran = world(kind, latency_s, says=put(remaining_requests=0))
    assert ran.refused <= 0.01 * ran.attempts
    assert ran.last_s <= 1.4 * EVENLY_S


@pytest.mark.parametrize("kind", HONEST)
def test_a_limit_that_slips_for_a_second_fails_no_job(kind: LimiterKind) -> None:
    ran = world(kind, 0.2, "tpm", says=meanwhile(100, 101, put(limit_tokens=50, remaining_tokens=0)))
    is_paced(ran, within=4)


@on_every_server
def test_garbage_in_the_middle_changes_nothing(kind: LimiterKind, latency_s: float) -> None:
    lie = put(limit_requests="NaN", remaining_requests="inf", reset_requests="'")
    is_paced(world(kind, latency_s, says=meanwhile(100, 160, lie)))


# ------------------------------------------------------------ silence


@on_every_server
def test_headers_that_are_never_seen_again_leave_what_they_taught(kind: LimiterKind, latency_s: float) -> None:
    is_paced(world(kind, latency_s, says=meanwhile(100, 1e9, lambda at, headers: {})))


@pytest.mark.parametrize(
    "says",
    [
        pytest.param(put(limit_requests=None, remaining_requests=None), id="only resets"),
        pytest.param(put(remaining_requests=None, reset_requests=None), id="only limits"),
        pytest.param(lambda at, headers: put(limit_tokens=10**6, remaining_tokens=9 * 10**5)(at, {}), id="only tokens"),
    ],
)
@pytest.mark.parametrize("kind", HONEST)
def test_where_nothing_is_said_of_what_remains_it_is_paced(kind: LimiterKind, says: Says) -> None:
    is_paced(world(kind, 2.0, says=says))


@on_every_server
def test_what_remains_without_its_limit_is_used_with_the_configured_one(kind: LimiterKind, latency_s: float) -> None:
    is_paced(world(kind, latency_s, says=put(limit_requests=None, reset_requests=None)))


@on_every_server
def test_a_projects_limit_that_is_lower_than_the_models_holds(kind: LimiterKind, latency_s: float) -> None:
    def says(at: float, headers: dict[str, str]) -> dict[str, str]:
        project = {f"{name[: -len('tokens')]}project-tokens": value for name, value in headers.items()}
        return put(limit_tokens=10**7, remaining_tokens=10**7)(at, project)

    ran = world(kind, latency_s, "tpm", says=says, settings=LimitSettings())
    assert ran.refused <= 0.01 * ran.attempts
    assert ran.last_s <= 1.1 * EVENLY_S + 2 * latency_s


# ------------------------------------------------------------ refusals that say nothing


@pytest.mark.parametrize("wait_s", [None, 0.0])
@on_every_server
def test_a_server_that_only_refuses_is_found_out(kind: LimiterKind, latency_s: float, wait_s: float | None) -> None:
    ran = world(kind, latency_s, dialect="none", waits=lambda _: wait_s, settings=LimitSettings(), concurrency=64)
    # The first lesson costs what is in flight.
    assert ran.refused <= 64 + 0.015 * ran.attempts


@pytest.mark.parametrize("kind", HONEST)
def test_nor_does_it_help_to_name_another_limit(kind: LimiterKind) -> None:
    only_tokens: Says = lambda at, headers: put(limit_tokens=10**6, remaining_tokens=9 * 10**5)(at, {})  # noqa: E731
    ran = world(kind, 2.0, says=only_tokens, settings=LimitSettings(), concurrency=64)
    assert ran.refused <= 64 + 0.02 * ran.attempts


@pytest.mark.parametrize("wait_s", [None, 0.0])
@pytest.mark.parametrize("kind", [*HONEST, "quantised"])
def test_a_configured_limit_that_is_too_high_is_settled_on_in_silence(kind: LimiterKind, wait_s: float | None) -> None:
    halved = [(100.0, lambda referee: referee.set_limits(100.0, rpm=RATE // 2))]
    ran = world(kind, 2.0, dialect="none", waits=lambda _: wait_s, script=halved)
    assert ran.refused <= 0.03 * ran.attempts
    assert ran.last_s <= 3 * EVENLY_S


@pytest.mark.parametrize("wait_s", [None, 0.0])
def test_the_sixth_server_needs_to_say_no_times(wait_s: float | None) -> None:
    ran = world("quantised", 2.0, waits=lambda _: wait_s)
    assert ran.refused <= 0.01 * ran.attempts
    assert ran.last_s <= EVENLY_S


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_refusals_by_chance_cost_minutes_and_not_hours(share: float, seed: int) -> None:
    ran = World(
        rpm=None,
        tpm=None,
        latency_s=0.3,
        dialect="none",
        settings=LimitSettings(),
        concurrency=64,
        chance=share,
        seed=seed,
    ).run([1] * 1500)
    # Once or twice it is tried whether a slower pace helps.
    assert ran.last_s <= 120 + 4 * FIRST_COOL_DOWN_S * ran.by_chance


# ------------------------------------------------------------ sleep

SLEPT_S = 3600.0


def sleep(referee: ServerRateLimiter) -> None:
    """Our clock, too, has gone on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop._clock.now += SLEPT_S


@pytest.mark.parametrize("mode", ["rpm", "tpm"])
@on_every_server
def test_after_an_hours_sleep_there_is_no_storm(kind: LimiterKind, latency_s: float, mode: Mode) -> None:
    ran = world(kind, latency_s, mode, script=[(100.0, sleep)])
    # Two that are on their way then arrive together.
    assert ran.refused <= 1
    assert ran.last_s - SLEPT_S <= 1.1 * EVENLY_S


@pytest.mark.parametrize("mode", ["rpm", "tpm"])
@pytest.mark.parametrize("kind", HONEST)
def test_nor_where_our_clock_has_slept_too_and_the_servers_has_not(kind: LimiterKind, mode: Mode) -> None:
    ran = world(kind, 2.0, mode, clock=lambda at: at if at < 100 else at + SLEPT_S)
    assert ran.refused <= 0.01 * ran.attempts
    assert ran.last_s - SLEPT_S <= 1.1 * EVENLY_S
