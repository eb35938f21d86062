"""Which first burst proves that bursts are allowed: one that a bucket of one second cannot have let through."""

from __future__ import annotations

from math import inf

import pytest

from processor.ratelimit.estimator.burst_breaker import BreakerState, BurstBreaker

RATE = 10.0


def probe(costs: list[float], *, budget: float, missing: float = 0.0, shown: float = inf) -> BurstBreaker:
    """Send a probe of these costs at once, as far as the budget goes, and answer it."""
    breaker = BurstBreaker()
    breaker.start_probe(budget, missing, 0.0)
    sent = 0
    for cost in costs:
        if not breaker.allows(cost, 0.0, 0.0):
            break
        breaker.on_grant(cost, 0.0)
        sent += 1
    breaker.allows(costs[-1], 0.0, 0.0)
    for _ in range(sent):
        breaker.on_response(0.0, RATE, shown)
    return breaker


@pytest.mark.parametrize(
    ("costs", "missing", "state"),
    [
        pytest.param([1.0] * 20, 0.0, BreakerState.ALLOWED, id="more than a second's"),
        pytest.param([50.0], 0.0, BreakerState.UNTESTED, id="a full bucket lets any through"),
        pytest.param([50.0], 5.0, BreakerState.ALLOWED, id="a bucket that is not full does not"),
        pytest.param([6.0, 50.0], 0.0, BreakerState.ALLOWED, id="nor after another"),
    ],
)
def test_burst_is_proof_where_a_bucket_of_one_second_would_have_refused(
    costs: list[float], missing: float, state: BreakerState
) -> None:
    assert probe(costs, budget=1.11 * RATE - missing, missing=missing).state is state


def test_burst_of_which_some_came_back_meanwhile_is_no_proof() -> None:
    """Requests arrived late: the headers of the bucket never show more than a second's to be missing."""
    assert probe([1.0] * 20, budget=1.11 * RATE, shown=0.98 * RATE).state is BreakerState.UNTESTED


def test_probe_ends_with_the_request_that_is_too_much_for_a_second() -> None:
    breaker = BurstBreaker()
    breaker.start_probe(1.11 * RATE, 0.0, 0.0)
    sent = 0
    while breaker.allows(3.0, 0.0, 0.0):
        breaker.on_grant(3.0, 0.0)
        sent += 1
    assert sent == 4
