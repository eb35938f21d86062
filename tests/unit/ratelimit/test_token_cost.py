from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.models import RequestSize
from processor.ratelimit.settings import LimitSettings, RateLimits, TokenAccounting, limit_group_key
from processor.ratelimit.token_cost import DEFAULT_OUTPUT_TOKENS, ExpectedOutput, request_cost

RULES: tuple[TokenAccounting, ...] = ("sum", "larger", "used")


def ask(
    *, prompt: int = 100, chars: int = 400, most: int | None = 50, choices: int = 1, model: str = "m"
) -> RequestSize:
    return RequestSize(
        path="/v1/chat/completions",
        model=model,
        prompt_tokens=prompt,
        prompt_chars=chars,
        max_tokens=most,
        choices=choices,
    )


def learned(*lengths: float) -> ExpectedOutput:
    expectation = ExpectedOutput()
    for length in lengths:
        expectation.learn(length)
    return expectation


@pytest.mark.parametrize(("rule", "tokens"), [("sum", 150), ("larger", 100), ("used", 150)])
def test_a_request_is_charged_by_the_providers_rule(rule: TokenAccounting, tokens: int) -> None:
    cost = request_cost(ask(), rule, expected_output=7)
    assert (cost.requests, cost.tokens, cost.input_tokens, cost.output_tokens) == (1, tokens, 100, 50)


def test_the_larger_of_both_is_the_output_where_that_is_more() -> None:
    assert request_cost(ask(chars=100, most=50), "larger", expected_output=7).tokens == 50


@pytest.mark.parametrize("rule", RULES)
def test_each_choice_may_be_as_long_as_the_job_allows(rule: TokenAccounting) -> None:
    assert request_cost(ask(chars=0, most=50, choices=3), rule, expected_output=7).output_tokens == 150


@pytest.mark.parametrize("rule", RULES)
def test_without_a_bound_the_expected_length_counts(rule: TokenAccounting) -> None:
    assert request_cost(ask(most=None, choices=2), rule, expected_output=30).output_tokens == 60


@given(st.sampled_from(RULES), st.integers(0, 10**6), st.integers(0, 10**7), st.none() | st.integers(0, 10**6))
def test_no_cost_is_less_than_nothing(rule: TokenAccounting, prompt: int, chars: int, most: int | None) -> None:
    cost = request_cost(ask(prompt=prompt, chars=chars, most=most), rule, expected_output=9)
    assert min(cost.tokens, cost.input_tokens, cost.output_tokens) >= 0
    assert cost.tokens >= cost.output_tokens


def test_nothing_is_known_of_the_first_replies() -> None:
    assert ExpectedOutput().tokens == DEFAULT_OUTPUT_TOKENS
    assert learned(20).tokens == 20


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=80))
def test_what_is_expected_lies_near_what_was_seen(lengths: list[int]) -> None:
    spread = max(lengths) - min(lengths)
    assert min(lengths) <= learned(*lengths).tokens <= max(lengths) + spread / 2 + 1


def test_replies_that_become_longer_are_expected_to_be() -> None:
    assert learned(*[100] * 500, *[400] * 150).tokens > 350


def test_a_general_limit_is_one_for_all_requests_together_and_a_models_own_is_apart() -> None:
    settings = LimitSettings(default=RateLimits(rpm=600), per_model={"big": RateLimits(rpm=60)})
    assert limit_group_key(settings, ask(model="small")) == limit_group_key(settings, ask(model="other")) == "*"
    assert limit_group_key(settings, ask(model="big")) == "/v1/chat/completions big"
    assert settings.of("big").rpm == 60
    assert settings.of("small").rpm == 600


def test_where_nothing_is_configured_each_model_has_a_lane() -> None:
    assert limit_group_key(LimitSettings(), ask(model="a")) != limit_group_key(LimitSettings(), ask(model="b"))
