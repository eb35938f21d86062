"""Servers with wrong, missing or changing headers; 429s without headers; a machine that sleeps.

Two requests a second, so that a run is cheap. The header latency is two seconds unless a test sets another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from processor.ratelimit.cooldown import FIRST_COOL_DOWN_S
from processor.ratelimit.settings import LimitSettings
from processor.simulator.rate_limiter import LimiterKind, ServerRateLimiter
from processor.simulator.virtual_clock import VirtualLoop
from tests.support.limiter_simulation import HeaderRewrite, Mode, Simulation, job_tokens, server_limits

pytestmark = pytest.mark.sampled(most=1)

CONSISTENT_KINDS: tuple[LimiterKind, ...] = ("sliding", "minute", "second")
RATE, MINUTES = 120, 5.5
COUNT = int(RATE * MINUTES)
PACED_S = 60 * MINUTES * 1.01 + 2

LATENCIES_S = [pytest.param(0.2, marks=pytest.mark.slow), 2.0, pytest.param(15.0, marks=pytest.mark.slow)]
all_servers = [
    pytest.mark.parametrize("kind", CONSISTENT_KINDS),
    pytest.mark.parametrize("latency_s", LATENCIES_S),
]


def on_each_server(test: Callable[..., None]) -> Callable[..., None]:
    for mark in all_servers:
        test = mark(test)
    return test


def set_headers(**values: object) -> HeaderRewrite:
    """Set these headers, whatever the server wrote. None: remove the header."""
    headers_set = {f"x-ratelimit-{name.replace('_', '-')}": value for name, value in values.items()}

    def rewrite_headers(at: float, headers: dict[str, str]) -> dict[str, str]:
        written = {**headers, **headers_set}
        return {name: str(value) for name, value in written.items() if value is not None}

    return rewrite_headers


def between(since: float, until: float, rewrite_headers: HeaderRewrite) -> HeaderRewrite:
    return lambda at, headers: rewrite_headers(at, headers) if since <= at < until else headers


def only_tokens(at: float, headers: dict[str, str]) -> dict[str, str]:
    """A limit on tokens that does not bind, and no other header."""
    return set_headers(limit_tokens=10**6, remaining_tokens=9 * 10**5)(at, {})


def simulate(kind: LimiterKind, latency_s: float, mode: Mode = "rpm", **more: object) -> Simulation:
    rpm, tpm = server_limits(mode, RATE)
    run = Simulation(rpm=rpm, tpm=tpm, kind=kind, latency_s=latency_s, **more)  # type: ignore[arg-type]
    return run.run(job_tokens(mode, RATE, COUNT))


def assert_paced(run: Simulation, *, within: float = 1.0) -> None:
    """No 429, and at most this many times as slow as even pacing."""
    assert run.throttled == 0
    assert run.last_s <= within * PACED_S


# ------------------------------------------------------------ wrong headers


@on_each_server
def test_remaining_above_the_limit_is_ignored(kind: LimiterKind, latency_s: float) -> None:
    assert_paced(simulate(kind, latency_s, rewrite_headers=set_headers(remaining_requests=10_000)))


@on_each_server
def test_remaining_above_the_limit_for_half_a_minute_is_ignored(kind: LimiterKind, latency_s: float) -> None:
    assert_paced(simulate(kind, latency_s, rewrite_headers=between(100, 130, set_headers(remaining_requests=10_000))))


@pytest.mark.parametrize(
    "reset",
    ["2020-01-01T00:00:00Z", "9999h", *(pytest.param(reset, marks=pytest.mark.slow) for reset in ("0s", "-5", "soon"))],
)
@pytest.mark.parametrize("kind", CONSISTENT_KINDS)
def test_reset_that_makes_no_sense_is_ignored(kind: LimiterKind, reset: str) -> None:
    run = simulate(kind, 2.0, rewrite_headers=set_headers(reset_requests=reset))
    assert_paced(run)
    assert run.last_s <= 1.02 * run.server.min_duration_s([1] * COUNT) + 6


@pytest.mark.parametrize("value", [0, pytest.param(-1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", ["rpm", pytest.param("tpm", marks=pytest.mark.slow)])
@on_each_server
def test_limit_of_zero_during_a_run_does_not_stop_it(
    kind: LimiterKind, latency_s: float, mode: Mode, value: int
) -> None:
    what = "requests" if mode == "rpm" else "tokens"
    wrong = set_headers(**{f"limit_{what}": value, f"remaining_{what}": value})
    assert_paced(simulate(kind, latency_s, mode, rewrite_headers=between(100, 160, wrong)), within=1.3)


@pytest.mark.parametrize("mode", ["rpm", pytest.param("tpm", marks=pytest.mark.slow)])
@on_each_server
def test_remaining_zero_for_three_minutes_does_not_stop_a_run(kind: LimiterKind, latency_s: float, mode: Mode) -> None:
    what = "requests" if mode == "rpm" else "tokens"
    run = simulate(kind, latency_s, mode, rewrite_headers=between(60, 240, set_headers(**{f"remaining_{what}": 0})))
    assert run.throttled <= 0.01 * run.attempts
    assert run.last_s <= 1.4 * PACED_S


@on_each_server
def test_remaining_zero_throughout_does_not_stop_a_run(kind: LimiterKind, latency_s: float) -> None:
    run = simulate(kind, latency_s, rewrite_headers=set_headers(remaining_requests=0))
    assert run.throttled <= 0.01 * run.attempts
    assert run.last_s <= 1.4 * PACED_S


@pytest.mark.parametrize("kind", CONSISTENT_KINDS)
def test_limit_that_is_too_low_for_a_second_fails_no_job(kind: LimiterKind) -> None:
    wrong = set_headers(limit_tokens=50, remaining_tokens=0)
    assert_paced(simulate(kind, 0.2, "tpm", rewrite_headers=between(100, 101, wrong)), within=4)


@on_each_server
def test_header_values_that_are_no_numbers_are_ignored(kind: LimiterKind, latency_s: float) -> None:
    wrong = set_headers(limit_requests="NaN", remaining_requests="inf", reset_requests="'")
    assert_paced(simulate(kind, latency_s, rewrite_headers=between(100, 160, wrong)))


# ------------------------------------------------------------ missing headers


@on_each_server
def test_learned_limit_holds_when_headers_stop(kind: LimiterKind, latency_s: float) -> None:
    assert_paced(simulate(kind, latency_s, rewrite_headers=between(100, 1e9, lambda at, headers: {})))


@pytest.mark.parametrize(
    "rewrite_headers",
    [
        pytest.param(set_headers(limit_requests=None, remaining_requests=None), id="only resets"),
        pytest.param(set_headers(remaining_requests=None, reset_requests=None), id="only limits"),
        pytest.param(only_tokens, id="only tokens"),
    ],
)
@pytest.mark.parametrize("kind", CONSISTENT_KINDS)
def test_run_without_remaining_headers_is_paced(kind: LimiterKind, rewrite_headers: HeaderRewrite) -> None:
    assert_paced(simulate(kind, 2.0, rewrite_headers=rewrite_headers))


@on_each_server
def test_remaining_without_a_limit_is_used_with_the_configured_limit(kind: LimiterKind, latency_s: float) -> None:
    assert_paced(simulate(kind, latency_s, rewrite_headers=set_headers(limit_requests=None, reset_requests=None)))


@on_each_server
def test_project_limit_below_the_models_limit_holds(kind: LimiterKind, latency_s: float) -> None:
    def rewrite_headers(at: float, headers: dict[str, str]) -> dict[str, str]:
        project = {f"{name[: -len('tokens')]}project-tokens": value for name, value in headers.items()}
        return set_headers(limit_tokens=10**7, remaining_tokens=10**7)(at, project)

    run = simulate(kind, latency_s, "tpm", rewrite_headers=rewrite_headers, settings=LimitSettings())
    assert run.throttled <= 0.01 * run.attempts
    assert run.last_s <= 1.1 * PACED_S + 2 * latency_s


# ------------------------------------------------------------ 429s without headers


@pytest.mark.parametrize("wait_s", [None, pytest.param(0.0, marks=pytest.mark.slow)])
@on_each_server
def test_limit_of_a_server_that_only_answers_429_is_found(
    kind: LimiterKind, latency_s: float, wait_s: float | None
) -> None:
    run = simulate(
        kind, latency_s, dialect="none", rewrite_retry_after=lambda _: wait_s, settings=LimitSettings(), concurrency=64
    )
    # The first episode throttles all that is in flight.
    assert run.throttled <= 64 + 0.015 * run.attempts


@pytest.mark.parametrize("kind", CONSISTENT_KINDS)
def test_limit_on_requests_is_found_where_only_a_limit_on_tokens_is_announced(kind: LimiterKind) -> None:
    run = simulate(kind, 2.0, rewrite_headers=only_tokens, settings=LimitSettings(), concurrency=64)
    # All that is in flight is throttled once, and by a server that counts by the second once more.
    assert run.throttled <= 2 * 64 + 0.02 * run.attempts


@pytest.mark.parametrize("wait_s", [None, pytest.param(0.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [*CONSISTENT_KINDS, "quantised"])
def test_configured_limit_that_is_too_high_is_lowered_without_headers(kind: LimiterKind, wait_s: float | None) -> None:
    halved = [(100.0, lambda server: server.set_limits(100.0, rpm=RATE // 2))]
    run = simulate(kind, 2.0, dialect="none", rewrite_retry_after=lambda _: wait_s, server_changes=halved)
    assert run.throttled <= 0.03 * run.attempts
    assert run.last_s <= 3 * PACED_S


@pytest.mark.parametrize("wait_s", [None, pytest.param(0.0, marks=pytest.mark.slow)])
def test_server_that_reports_too_much_remaining_needs_no_retry_after(wait_s: float | None) -> None:
    run = simulate("quantised", 2.0, rewrite_retry_after=lambda _: wait_s)
    assert run.throttled <= 0.01 * run.attempts
    assert run.last_s <= PACED_S


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_random_429s_slow_a_run_by_minutes_at_most(share: float, seed: int) -> None:
    run = Simulation(
        rpm=None,
        tpm=None,
        latency_s=0.3,
        dialect="none",
        settings=LimitSettings(),
        concurrency=64,
        random_429_share=share,
        seed=seed,
    ).run([1] * 1500)
    # The run tests once or twice whether a slower rate helps.
    assert run.last_s <= 120 + 4 * FIRST_COOL_DOWN_S * run.random_429s


# ------------------------------------------------------------ sleep

SLEEP_S = 3600.0


def sleep(server: ServerRateLimiter) -> None:
    """The machine sleeps, and the loop's clock goes on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop._clock.now += SLEEP_S


@pytest.mark.parametrize("mode", ["rpm", pytest.param("tpm", marks=pytest.mark.slow)])
@on_each_server
def test_hour_of_sleep_is_followed_by_no_burst(kind: LimiterKind, latency_s: float, mode: Mode) -> None:
    run = simulate(kind, latency_s, mode, server_changes=[(100.0, sleep)])
    # Two requests that are on their way then arrive at the same time.
    assert run.throttled <= 1
    assert run.last_s - SLEEP_S <= 1.1 * PACED_S


@pytest.mark.parametrize("mode", ["rpm", pytest.param("tpm", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", CONSISTENT_KINDS)
def test_hour_of_sleep_during_which_the_loops_clock_stood_still_causes_few_429s(kind: LimiterKind, mode: Mode) -> None:
    run = simulate(kind, 2.0, mode, server_clock=lambda at: at if at < 100 else at + SLEEP_S)
    assert run.throttled <= 0.01 * run.attempts
    assert run.last_s - SLEEP_S <= 1.1 * PACED_S
