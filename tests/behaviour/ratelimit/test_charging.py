"""Servers that announce a limit on tokens and charge for them by rules of their own.

``python -m tests.benchmarks.limit_campaigns charging`` makes the whole table.
"""

from __future__ import annotations

import pytest

from processor.simulator.rate_limiter import LimiterKind
from tests.support.limit_campaigns import charging

pytestmark = pytest.mark.sampled

KINDS: tuple[LimiterKind, ...] = ("sliding", "minute", "second", "quantised")
EVERYDAY = (3, 12, 60)
RATES = [rate if rate in EVERYDAY else pytest.param(rate, marks=pytest.mark.slow) for rate in (*EVERYDAY, 300, 3_000)]


@pytest.mark.parametrize("ratio", [0.7, 1.3, *(pytest.param(one, marks=pytest.mark.slow) for one in (0.9, 1.15, 1.5))])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("kind", KINDS)
def test_server_refuses_one_request_at_most_and_its_limit_is_used(kind: LimiterKind, rate: int, ratio: float) -> None:
    run, bound_s = charging(kind, rate, ratio)
    assert run.throttled <= max(1, 0.001 * run.attempts)
    assert run.last_s <= bound_s


def test_second_burst_is_not_sent_where_the_first_was_refused() -> None:
    """The server reports a minute's limit and refuses by the second."""
    run, _ = charging("quantised", 60, 1.0)
    assert run.throttled <= 2
