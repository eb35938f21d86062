"""How many tokens requests and replies have by the rules of their API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.protocols import protocol_for
from processor.tokens.encoding_files import load
from processor.tokens.rules import CountText, ModelCounter, TokenCount, count_characters
from tests.support.protocol_jobs import CHAT, COMPLETIONS, job_for


def encoded(text: str) -> int:
    return len(load("cl100k_base").encode_ordinary(text))


def characters(text: str) -> int:
    """An encoding that is easy to calculate with: one token per character."""
    return len(text)


def counter(count_text: CountText, *, model: str = "gpt-4", is_loaded: bool = True) -> ModelCounter:
    return ModelCounter(count_text=count_text, base_model=model, is_loaded=is_loaded, is_known=True)


def prompt(path: str, body: dict[str, Any], count_text: CountText, model: str = "gpt-4") -> TokenCount:
    return protocol_for(path).count_prompt(body, counter(count_text, model=model))


def reply(path: str, body: dict[str, Any], count_text: CountText) -> TokenCount:
    return protocol_for(path).count_reply(body, {}, counter(count_text))


def estimate(path: str, body: dict[str, Any]) -> TokenCount:
    """The prompt's tokens while no encoding is loaded."""
    return protocol_for(path).count_prompt(body, counter(characters, is_loaded=False))


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **more}]}


# ---------------------------------------------------------------- prompts


def test_a_chat_message_costs_three_tokens_beside_its_values_and_the_reply_is_primed() -> None:
    assert prompt(CHAT, user("12345"), characters) == TokenCount(3 + 4 + 5 + 3)


def test_a_message_with_a_name_costs_one_token_more() -> None:
    assert prompt(CHAT, user("12345", name="Ada"), characters) == TokenCount(3 + 4 + 5 + 3 + 1 + 3)


def test_gpt_35_turbo_0301_counts_four_tokens_a_message_and_one_less_for_a_name() -> None:
    assert prompt(CHAT, user("12345", name="Ada"), characters, model="gpt-3.5-turbo-0301") == TokenCount(
        4 + 4 + 5 + 3 - 1 + 3
    )


def test_a_conversation_is_counted_by_the_rule_of_the_cookbook() -> None:
    messages = [
        {"role": "system", "content": "You answer in rhymes, as briefly as you can."},
        {"role": "system", "name": "example_user", "content": "Where do herons sleep?"},
        {"role": "system", "name": "example_assistant", "content": "Where reeds are deep."},
        {"role": "user", "content": "And when it's cold, -12 °C, where then?"},
    ]
    expected = 3 + sum(
        3 + ("name" in message) + sum(encoded(value) for value in message.values()) for message in messages
    )
    assert prompt(CHAT, {"model": "gpt-4", "messages": messages}, encoded) == TokenCount(expected)


def test_text_that_looks_like_a_special_token_is_counted_as_text() -> None:
    assert prompt(COMPLETIONS, {"prompt": "<|endoftext|>"}, encoded).tokens > 1


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        ("12345", 5),
        (["12345", "678"], 8),
        ([11, 12, 13], 3),
        ([[11, 12], [13]], 3),
        ([], 0),
        (None, 0),
    ],
)
def test_a_completions_prompt_of_texts_or_token_ids_is_counted_exactly(given: Any, tokens: int) -> None:
    assert prompt(COMPLETIONS, {"prompt": given}, characters) == TokenCount(tokens)


def test_the_suffix_of_a_completion_counts_as_prompt() -> None:
    assert prompt(COMPLETIONS, {"prompt": "abc", "suffix": "de"}, characters) == TokenCount(5)


def test_content_parts_count_their_text_and_an_estimate_for_images_audio_and_files() -> None:
    parts = [
        {"type": "text", "text": "12345"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "refusal", "refusal": "no"},
    ]
    expected = 3 + 4 + 5 + 765 + 85 + 1 + 1500 + 2 + 3
    assert prompt(CHAT, user(parts), characters) == TokenCount(expected, ("audio", "files", "images"))


def test_tools_and_schemas_count_as_their_json_and_mark_the_count_as_an_estimate() -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    response_format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
    body = user("12345") | {"tools": tools, "response_format": response_format}
    as_json = len(json.dumps(tools, separators=(",", ":"))) + len(
        json.dumps(response_format["json_schema"], separators=(",", ":"))
    )
    assert prompt(CHAT, body, characters) == TokenCount(15 + as_json, ("schema", "tools"))


def test_a_response_format_without_a_schema_costs_nothing() -> None:
    assert prompt(CHAT, user("12345") | {"response_format": {"type": "json_object"}}, characters) == TokenCount(15)


def test_tool_calls_in_a_conversation_count_their_names_and_arguments() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"a":1}'}}
    custom = {"id": "call_2", "type": "custom", "custom": {"name": "run", "input": "ls"}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call, custom]},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
    ]
    expected = 3 + (3 + 9 + 7 + 7 + 3 + 2) + (3 + 9 + 1 + 2)
    assert prompt(CHAT, {"messages": messages}, characters) == TokenCount(expected, ("tools",))


def test_unknown_fields_count_as_their_json_and_mark_the_count_as_an_estimate() -> None:
    assert prompt(CHAT, user("12345", weight=10), characters) == TokenCount(15 + 2, ("other",))
    assert prompt(CHAT, user([{"type": "video"}]), characters) == TokenCount(3 + 4 + 3 + 16, ("other",))


# ---------------------------------------------------------------- replies


def test_the_tokens_of_a_reply_are_counted_over_all_choices() -> None:
    choices = [{"message": {"role": "assistant", "content": "12345"}}, {"message": {"content": "678"}}]
    assert reply(CHAT, {"choices": choices}, characters) == TokenCount(8)


def test_reasoning_under_two_names_is_counted_once_and_refusals_are_counted() -> None:
    message = {"content": None, "reasoning": "1234", "reasoning_content": "1234", "refusal": "no"}
    assert reply(CHAT, {"choices": [{"message": message}]}, characters) == TokenCount(6)


def test_tool_calls_in_a_reply_are_counted_and_mark_the_count_as_an_estimate() -> None:
    message = {
        "content": None,
        "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{}"}}],
        "function_call": {"name": "g", "arguments": "[]"},
    }
    assert reply(CHAT, {"choices": [{"message": message}]}, characters) == TokenCount(6, ("tools",))


def test_content_parts_of_a_reply_count_their_text_and_thinking() -> None:
    message: dict[str, Any] = {"content": [{"type": "text", "text": "123"}]}
    assert reply(CHAT, {"choices": [{"message": message}]}, characters) == TokenCount(3)
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "12345"}]}
    message["content"].insert(0, thought)
    assert reply(CHAT, {"choices": [{"message": message}]}, characters) == TokenCount(8)


def test_a_completions_reply_counts_the_texts_of_its_choices() -> None:
    assert reply(COMPLETIONS, {"choices": [{"text": "12345"}, {"text": "678"}]}, characters) == TokenCount(8)


# ---------------------------------------------------------------- before an encoding is loaded


def test_without_an_encoding_a_prompt_is_estimated_by_its_characters_rounded_up() -> None:
    assert estimate(COMPLETIONS, {"prompt": "12345"}) == TokenCount(2, ("not_loaded",))
    assert estimate(CHAT, user("12345")) == TokenCount(3 + 3 + 3, ("not_loaded",))


def test_without_an_encoding_token_ids_count_as_tokens_and_images_as_nothing() -> None:
    assert estimate(COMPLETIONS, {"prompt": [1, 2, 3]}).tokens == 3
    image = {"type": "image_url", "image_url": {"url": "data:" + "A" * 10_000}}
    assert count_characters([user([image])["messages"]]) == len("user") + len("image_url")


# ---------------------------------------------------------------- the size of a request


def test_a_request_size_has_the_prompt_the_output_limit_and_the_choices() -> None:
    job = job_for(**user("12345"), model="gpt-4", max_tokens=7, n=2)
    size = protocol_for(CHAT).request_size(job, counter(characters))
    assert (size.path, size.model) == (CHAT, "gpt-4")
    assert (size.prompt_tokens, size.prompt_estimated) == (15, ())
    assert size.prompt_chars == len("user") + 5
    assert (size.max_tokens, size.choices) == (7, 2)
    assert protocol_for(CHAT).request_size(job, counter(characters), counts_characters=False).prompt_chars is None


def test_a_request_size_names_why_its_prompt_is_an_estimate() -> None:
    size = protocol_for(CHAT).request_size(job_for(**user("12345", weight=10)), counter(characters))
    assert size.prompt_estimated == ("other",)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    ("fields", "max_tokens"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 4, "max_tokens": 5}, 4),
        ({"max_completion_tokens": None, "max_tokens": 5}, 5),
        ({"max_tokens": -1}, 0),
        ({"max_tokens": "5"}, None),
        ({"max_tokens": True}, None),
    ],
)
def test_the_output_limit_is_read_under_either_name(path: str, fields: dict[str, Any], max_tokens: int | None) -> None:
    assert protocol_for(path).max_output_tokens(fields) == max_tokens


@pytest.mark.parametrize(("n", "choices"), [(None, 1), (3, 3), (0, 1), (-2, 1), ("3", 1), (True, 1)])
def test_choices_are_one_unless_the_request_asks_for_more(n: Any, choices: int) -> None:
    assert protocol_for(CHAT).choices({"n": n}) == choices


# ---------------------------------------------------------------- whatever the body

JSON_TEXT = st.text(st.characters(), max_size=20)  # half surrogate pairs among them
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(JSON_TEXT, inner, max_size=4),
    max_leaves=12,
)
KNOWN_KEYS = [
    *("messages", "prompt", "input", "suffix", "tools", "functions", "response_format", "json_schema", "choices"),
    *("message", "content", "text", "name", "role", "tool_calls", "function_call", "function", "custom", "reasoning"),
    *("type", "image_url", "input_audio", "file", "refusal", "detail", "arguments", "source", "data", "url", "audio"),
    *("usage", "reasoning_tokens", "completion_tokens_details", "prediction", "transcript", "format", "x_groq"),
    *("echo", "best_of", "n", "index", "reasoning_effort", "document", "video_url", "image", "prompt_tokens"),
]
LIKELY_JSON = st.recursive(
    st.none() | st.integers() | JSON_TEXT | st.sampled_from(KNOWN_KEYS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOWN_KEYS), inner, max_size=4),
    max_leaves=20,
)


@given(
    path=st.sampled_from([CHAT, COMPLETIONS]),
    body=st.dictionaries(st.sampled_from(KNOWN_KEYS), ANY_JSON | LIKELY_JSON, max_size=5),
)
def test_counting_never_fails_for_any_json_body(path: str, body: dict[str, Any]) -> None:
    assert prompt(path, body, encoded).tokens >= 0
    assert estimate(path, body).tokens >= 0
    protocol = protocol_for(path)
    for model in ("gpt-4", "o3", "claude", ""):
        assert protocol.count_reply(body, body | {"echo": True}, counter(encoded, model=model)).tokens >= 0
    assert protocol.request_size(job_for(path, **body | {"model": "m"}), counter(encoded)).choices >= 1
    usage = protocol.reported_usage(body)
    assert usage is None or usage.total_tokens > 0


def test_a_body_that_is_nested_too_deeply_to_serialize_is_counted_by_its_characters() -> None:
    deep: Any = "12345678"
    for _ in range(5000):
        deep = [deep]
    assert prompt(CHAT, user("12345") | {"tools": deep}, characters) == TokenCount(15 + 2, ("tools",))
    assert prompt(CHAT, user(deep), characters).estimate_reasons == ("other",)
