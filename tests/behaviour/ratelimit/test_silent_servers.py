"""Servers that announce nothing: a limit is found, and random refusals are told from one.

``python -m tests.benchmarks.limit_campaigns silent random seconds`` makes the whole tables.
"""

from __future__ import annotations

import pytest

from processor.simulator.rate_limiter import LimiterKind
from tests.support.limit_campaigns import bursts, silent, unlimited

pytestmark = pytest.mark.sampled(most=2)

slow = pytest.mark.slow
KINDS: tuple[LimiterKind, ...] = ("sliding", "minute", "second")


@pytest.mark.parametrize(
    ("rate", "given"),
    [
        (60, None),
        (300, None),
        pytest.param(300, 200, marks=slow),
        pytest.param(1200, None, marks=slow),
        pytest.param(3000, 200, marks=slow),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_silent_limit_is_found_at_the_cost_of_few_refusals(kind: LimiterKind, rate: int, given: int | None) -> None:
    """With a number of requests in flight given, they may all be refused once."""
    run, bound_s = silent(kind, rate, given=given)
    assert run.throttled <= (given or 0) + 0.02 * run.attempts
    assert run.last_s <= bound_s


@slow
def test_rate_does_not_collapse_where_many_requests_are_refused_at_once() -> None:
    """More are refused at once than the accepted rate is measured over."""
    run, bound_s = silent("minute", 3000, given=None)
    assert run.throttled <= 0.02 * run.attempts
    assert run.last_s <= 1.05 * bound_s


@slow
@pytest.mark.parametrize("seed", [1, 5])
def test_refusal_soon_after_a_pause_lowers_the_rate_by_a_little(seed: int) -> None:
    """The pause is no part of the time in which the last requests were sent."""
    run, bound_s = silent("sliding", 12_000, given=None, seed=seed)
    assert run.last_s <= bound_s


@pytest.mark.parametrize("latency_s", [0.3, 2.0])
@pytest.mark.parametrize(
    ("share", "seed"), [(0.02, 1), (0.2, 0), *(pytest.param(share, 2, marks=slow) for share in (0.01, 0.05, 0.1))]
)
@pytest.mark.parametrize("given", [None, pytest.param(64, marks=slow)])
def test_random_refusals_cost_one_pause_each(given: int | None, share: float, seed: int, latency_s: float) -> None:
    run, bound_s = unlimited(share, 1500, given=given, latency_s=latency_s, seed=seed)
    assert run.last_s <= bound_s


@slow
def test_refusals_during_one_second_in_twenty_cost_one_pause_each() -> None:
    def share(at: float) -> float:
        return 0.02 if at % 20 < 1 else 0.0

    run, bound_s = unlimited(share, 6000, given=None, latency_s=0.3, seed=1)
    assert run.last_s <= bound_s


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=slow)])
@pytest.mark.parametrize("given", [None, pytest.param(64, marks=slow)])
def test_times_of_refusing_all_do_not_slow_the_rest_of_the_run(given: int | None, seed: int) -> None:
    """They look like a limit, until the server refuses at rates that it has allowed."""
    run, bound_s = bursts(3000, given=given, latency_s=2.0, seed=seed)
    assert run.last_s <= bound_s


@pytest.mark.parametrize("given", [None, pytest.param(64, marks=slow)])
def test_refusing_all_soon_after_a_pause_is_not_taken_for_a_lower_limit(given: int | None) -> None:
    """Many are refused of the few that were sent, in less time than a limit needs to be exhausted again."""
    run, bound_s = bursts(3000, given=given, latency_s=0.3, seed=1)
    assert run.last_s <= bound_s
