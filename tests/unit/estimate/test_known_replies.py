"""What earlier replies tell of those to come: lengths, times, and how long the last replies of a run take."""

from __future__ import annotations

import heapq
from random import Random
from statistics import mean

import pytest

from processor.estimate.known_replies import ReplySample
from processor.report.row_facts import RowFacts, facts_of

FIRST_TOKEN_S = 0.5
S_PER_TOKEN = 0.02


def row(tokens: int, total_s: float) -> RowFacts:
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}
    fields = {"id": "0" * 32, "custom_id": "a", "response": {"status_code": 200, "body": {"usage": usage}}}
    timing = {"started_at": "2026-01-01T00:00:00Z", "first_token_s": FIRST_TOKEN_S, "total_s": total_s}
    found = facts_of({**fields, "usage": usage, "error": None, "timing": timing})
    assert found is not None
    return found


def sample_of(lengths: list[int]) -> ReplySample:
    return ReplySample([row(tokens, FIRST_TOKEN_S + S_PER_TOKEN * tokens) for tokens in lengths])


def lengths(count: int, *, spread: float) -> list[int]:
    rng = Random(1)
    return [max(1, round(rng.lognormvariate(4, spread))) for _ in range(count)]


def test_shorter_replies_take_less_time() -> None:
    sample = sample_of(lengths(500, spread=0.8))
    assert sample.expected_s(None) == pytest.approx(sample.mean_s)
    for at_most in (5, 40, 100, 1000):
        assert sample.expected_s(at_most) == pytest.approx(FIRST_TOKEN_S + S_PER_TOKEN * sample.mean_tokens(at_most))


def test_replies_of_one_length_take_as_long_as_they_did() -> None:
    sample = ReplySample([row(10, seconds) for seconds in (1.0, 2.0, 3.0)])
    assert sample.expected_s(5) == sample.expected_s(None) == 2.0
    assert ReplySample([row(10, 0.0)]).tail_s(8) == 0.0


@pytest.mark.sampled
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("in_flight", [2, 8, 50])
def test_last_replies_end_one_after_the_other(in_flight: int, spread: float) -> None:
    """Plays many runs in which each reply that ends lets the next request start."""
    sample = sample_of(lengths(400, spread=spread))
    rng, ends = Random(2), []
    for _ in range(600):
        at = [rng.uniform(0, 2) for _ in range(in_flight)]  # they start at different times
        began = sum(at)
        heapq.heapify(at)
        replies_s = 0.0
        for _ in range(20 * in_flight):
            took_s = rng.choice(sample.total_s)
            replies_s += took_s
            heapq.heapreplace(at, at[0] + took_s)
        ends.append(max(at) - (began + replies_s) / in_flight)
    assert sample.tail_s(in_flight) == pytest.approx(mean(ends), rel=0.25, abs=0.15)
