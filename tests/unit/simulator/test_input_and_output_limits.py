"""Limits on the tokens of prompts and of replies apart, as the Messages API has them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.simulator.counters import MINUTE_NS, SECOND_NS, SlidingWindowCounter
from processor.simulator.provider import SimulatedProvider
from processor.simulator.rate_limiter import LimiterKind, ServerRateLimiter
from processor.simulator.settings import SimulatorSettings

BOTH: list[LimiterKind] = ["sliding", "minute"]


@pytest.mark.parametrize("kind", BOTH)
def test_request_is_admitted_only_where_both_limits_have_room(kind: LimiterKind) -> None:
    limiter = ServerRateLimiter(None, None, input_tpm=1000, output_tpm=100, kind=kind)
    assert limiter.admit(0.0, input_tokens=900, output_tokens=10).is_admitted
    decision = limiter.admit(0.0, input_tokens=200, output_tokens=10)
    assert (decision.is_admitted, decision.resource, decision.limit) == (False, "input_tokens", 1000)
    decision = limiter.admit(0.0, input_tokens=50, output_tokens=95)
    assert (decision.is_admitted, decision.resource) == (False, "output_tokens")
    assert limiter.admit(0.0, input_tokens=50, output_tokens=90).is_admitted
    assert limiter.admit(60.0, input_tokens=950, output_tokens=95).is_admitted


def test_headers_tell_both_limits_in_the_dialect_that_has_them() -> None:
    limiter = ServerRateLimiter(None, None, input_tpm=1000, output_tpm=100, kind="minute")
    limiter.admit(0.0, input_tokens=300, output_tokens=60)
    headers = limiter.headers(0.0, "anthropic", epoch_s=1_767_225_600.0)
    assert headers["anthropic-ratelimit-input-tokens-limit"] == "1000"
    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "700"
    assert headers["anthropic-ratelimit-output-tokens-remaining"] == "40"
    assert headers["anthropic-ratelimit-output-tokens-reset"] == "2026-01-01T00:00:36Z"
    assert headers["date"] == "Thu, 01 Jan 2026 00:00:00 GMT"
    assert limiter.headers(0.0, "openai") == {}


@pytest.mark.parametrize("kind", BOTH)
def test_correction_gives_back_at_its_time_what_was_not_used(kind: LimiterKind) -> None:
    limiter = ServerRateLimiter(None, None, output_tpm=60, kind=kind, count_throttled=False)
    limiter.admit(0.0, output_tokens=60)
    limiter.correct(2.0, 0.0, {"tokens": 50, "output_tokens": 50})
    assert not limiter.admit(1.9, output_tokens=45).is_admitted
    assert limiter.admit(2.0, output_tokens=45).is_admitted
    limiter.correct(3.0, 2.0, {"output_tokens": -5})
    assert int(limiter.headers(3.0, "anthropic")["anthropic-ratelimit-output-tokens-remaining"]) <= 3


@given(
    gaps=st.lists(st.tuples(st.sampled_from((0, 1, 900, 20_000, 61_000)), st.integers(1, 50)), min_size=1, max_size=40),
    shares=st.lists(st.integers(0, 100), min_size=40, max_size=40),
)
def test_sliding_window_with_corrections_agrees_with_a_naive_counter(
    gaps: list[tuple[int, int]], shares: list[int]
) -> None:
    counter, entries, now = SlidingWindowCounter(100), list[list[int]](), 0
    for (gap, cost), share in zip(gaps, shares, strict=False):
        now += gap * SECOND_NS // 1000
        counter.count(now, cost)
        entries.append([now, cost])
        picked = entries[share % len(entries)]
        back = picked[1] * share // 100
        counter.give_back(now, picked[0], back)
        picked[1] -= back
        used = sum(left for at, left in entries if at > now - MINUTE_NS)
        assert counter.remaining(now) == max(0, 100 - used)


def test_provider_reserves_the_most_that_a_reply_may_have_and_corrects_it_at_its_end() -> None:
    provider = SimulatedProvider(
        SimulatorSettings(
            input_tpm=1000, output_tpm=1000, dialect="anthropic", charging="used", kind="minute", reply_tokens=(20, 20)
        )
    )
    body = {"model": "m", "max_tokens": 900, "messages": [{"role": "user", "content": "x" * 400}]}

    def remaining(at: float) -> tuple[int, int, int | None]:
        response = provider.handle("POST", "/v1/messages", {}, json.dumps({**body, "max_tokens": 1}).encode(), at)
        names = (f"anthropic-ratelimit-{what}-tokens-remaining" for what in ("input", "output"))
        input_left, output_left = (int(response.headers[name]) for name in names)
        return input_left, output_left, response.status

    provider.handle("POST", "/v1/messages", {}, json.dumps(body).encode(), 0.0)
    assert remaining(0.0) == (800, 99, 200)
    assert remaining(10.0)[1] >= 970
