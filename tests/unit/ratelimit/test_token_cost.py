from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.models import RequestSize
from processor.ratelimit.settings import LimitSettings, RateLimits, TokenAccounting, limit_group_key
from processor.ratelimit.token_cost import DEFAULT_OUTPUT_TOKENS, ExpectedOutput, request_cost

ALL_RULES: tuple[TokenAccounting, ...] = ("sum", "larger", "used")


def size_of(
    *, prompt: int = 100, chars: int = 400, max_tokens: int | None = 50, choices: int = 1, model: str = "m"
) -> RequestSize:
    return RequestSize(
        path="/v1/chat/completions",
        model=model,
        prompt_tokens=prompt,
        prompt_chars=chars,
        max_tokens=max_tokens,
        choices=choices,
    )


def learned_from(*lengths: float) -> ExpectedOutput:
    expectation = ExpectedOutput()
    for length in lengths:
        expectation.learn(length)
    return expectation


@pytest.mark.parametrize(("accounting", "tokens"), [("sum", 150), ("larger", 100), ("used", 150)])
def test_tokens_are_counted_by_the_providers_rule(accounting: TokenAccounting, tokens: int) -> None:
    cost = request_cost(size_of(), accounting, expected_output=7)
    assert (cost.requests, cost.tokens, cost.input_tokens, cost.output_tokens) == (1, tokens, 100, 50)


def test_larger_rule_counts_the_output_where_it_exceeds_the_prompt() -> None:
    assert request_cost(size_of(chars=100, max_tokens=50), "larger", expected_output=7).tokens == 50


@pytest.mark.parametrize("accounting", ALL_RULES)
def test_each_choice_costs_the_output_that_the_job_allows(accounting: TokenAccounting) -> None:
    assert request_cost(size_of(chars=0, max_tokens=50, choices=3), accounting, expected_output=7).output_tokens == 150


@pytest.mark.parametrize("accounting", ALL_RULES)
def test_expected_output_counts_where_the_job_sets_no_maximum(accounting: TokenAccounting) -> None:
    assert request_cost(size_of(max_tokens=None, choices=2), accounting, expected_output=30).output_tokens == 60


@given(st.sampled_from(ALL_RULES), st.integers(0, 10**6), st.integers(0, 10**7), st.none() | st.integers(0, 10**6))
def test_costs_are_never_negative(accounting: TokenAccounting, prompt: int, chars: int, max_tokens: int | None) -> None:
    cost = request_cost(size_of(prompt=prompt, chars=chars, max_tokens=max_tokens), accounting, expected_output=9)
    assert min(cost.tokens, cost.input_tokens, cost.output_tokens) >= 0
    assert cost.tokens >= cost.output_tokens


def test_expected_output_has_a_default_until_the_first_reply() -> None:
    assert ExpectedOutput().tokens == DEFAULT_OUTPUT_TOKENS
    assert learned_from(20).tokens == 20


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=80))
def test_expected_output_is_near_the_lengths_of_the_replies(lengths: list[int]) -> None:
    spread = max(lengths) - min(lengths)
    assert min(lengths) <= learned_from(*lengths).tokens <= max(lengths) + spread / 2 + 1


def test_expected_output_follows_replies_that_become_longer() -> None:
    assert learned_from(*[100] * 500, *[400] * 150).tokens > 350


def test_requests_share_the_general_limit_unless_their_model_has_its_own() -> None:
    settings = LimitSettings(default=RateLimits(rpm=600), per_model={"big": RateLimits(rpm=60)})
    assert limit_group_key(settings, size_of(model="small")) == limit_group_key(settings, size_of(model="other")) == "*"
    assert limit_group_key(settings, size_of(model="big")) == "/v1/chat/completions big"
    assert settings.of("big").rpm == 60
    assert settings.of("small").rpm == 600


def test_each_model_has_its_own_limit_group_where_nothing_is_configured() -> None:
    assert limit_group_key(LimitSettings(), size_of(model="a")) != limit_group_key(LimitSettings(), size_of(model="b"))
