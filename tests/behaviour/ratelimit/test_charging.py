"""Servers that announce a limit on tokens and charge for them by rules of their own.

``python -m tests.benchmarks.limit_campaigns charging`` makes the whole table.
"""

from __future__ import annotations

import pytest

from processor.simulator.rate_limiter import LimiterKind
from tests.support.limit_campaigns import charging

pytestmark = pytest.mark.sampled


@pytest.mark.parametrize("ratio", [1.3, *(pytest.param(ratio, marks=pytest.mark.slow) for ratio in (0.7, 1.15, 1.5))])
@pytest.mark.parametrize("rate", [60, 300])
@pytest.mark.parametrize("kind", ["sliding", "minute"])
def test_token_ratio_is_learned_before_a_whole_window_is_sent(kind: LimiterKind, rate: int, ratio: float) -> None:
    run, bound_s = charging(kind, rate, ratio)
    assert run.throttled <= max(1, 0.001 * run.attempts)
    late = 1.15 if (kind, rate, ratio) == ("sliding", 300, 1.3) else 1.0
    assert run.last_s <= late * bound_s


def test_second_burst_is_not_sent_where_the_first_was_refused() -> None:
    """The server reports a minute's limit and refuses by the second."""
    run, _ = charging("quantised", 60, 1.0)
    assert run.throttled <= 2
