from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.tokens.encoding_files import load
from processor.tokens.rules import OVERHEAD_0301, TokenCount, characters, guess, prompt, reply

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def text(value: str) -> int:
    return len(load("cl100k_base").encode_ordinary(value))


def chars(value: str) -> int:
    """An encoding that is easy to reckon with: a token a character."""
    return len(value)


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **more}]}


# ---------------------------------------------------------------- prompts


def test_a_message_costs_three_its_values_and_the_priming() -> None:
    assert prompt(CHAT, user("12345"), chars) == TokenCount(3 + 4 + 5 + 3)


def test_a_name_costs_one_more() -> None:
    assert prompt(CHAT, user("12345", name="Ada"), chars) == TokenCount(3 + 4 + 5 + 3 + 1 + 3)


def test_the_0301_model_counts_four_a_message_and_one_less_for_a_name() -> None:
    assert prompt(CHAT, user("12345", name="Ada"), chars, OVERHEAD_0301) == TokenCount(4 + 4 + 5 + 3 - 1 + 3)


def test_a_conversation_counts_what_the_cookbook_counts() -> None:
    messages = [
        {"role": "system", "content": "You answer in rhymes, as briefly as you can."},
        {"role": "system", "name": "example_user", "content": "Where do herons sleep?"},
        {"role": "system", "name": "example_assistant", "content": "Where reeds are deep."},
        {"role": "user", "content": "And when it's cold, -12 °C, where then?"},
    ]
    expected = 3 + sum(3 + ("name" in message) + sum(text(value) for value in message.values()) for message in messages)
    assert prompt(CHAT, {"model": "gpt-4", "messages": messages}, text) == TokenCount(expected)


def test_text_that_looks_like_a_special_token_is_text() -> None:
    assert prompt(COMPLETIONS, {"prompt": "<|endoftext|>"}, text).tokens > 1


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
@pytest.mark.parametrize(("path", "key"), [(COMPLETIONS, "prompt"), ("/v1/embeddings", "input")])
def test_texts_and_token_ids_are_counted_exactly(path: str, key: str, given: Any, tokens: int) -> None:
    assert prompt(path, {key: given}, chars) == TokenCount(tokens)


def test_the_suffix_of_an_insertion_is_read_too() -> None:
    assert prompt(COMPLETIONS, {"prompt": "abc", "suffix": "de"}, chars) == TokenCount(5)


def test_parts_count_their_text_and_an_estimate_for_what_is_no_text() -> None:
    parts = [
        {"type": "text", "text": "12345"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "refusal", "refusal": "no"},
    ]
    expected = 3 + 4 + 5 + 765 + 85 + 300 + 1500 + 2 + 3
    assert prompt(CHAT, user(parts), chars) == TokenCount(expected, ("audio", "files", "images"))


def test_tools_and_schemas_are_an_estimate_and_say_so() -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    response_format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
    body = user("12345") | {"tools": tools, "response_format": response_format}
    as_json = len(json.dumps(tools, separators=(",", ":"))) + len(
        json.dumps(response_format["json_schema"], separators=(",", ":"))
    )
    assert prompt(CHAT, body, chars) == TokenCount(15 + as_json, ("schema", "tools"))


def test_a_response_format_without_a_schema_costs_nothing() -> None:
    assert prompt(CHAT, user("12345") | {"response_format": {"type": "json_object"}}, chars) == TokenCount(15)


def test_calls_in_the_conversation_count_their_names_and_arguments() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"a":1}'}}
    custom = {"id": "call_2", "type": "custom", "custom": {"name": "run", "input": "ls"}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call, custom]},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
    ]
    expected = 3 + (3 + 9 + 7 + 7 + 3 + 2) + (3 + 9 + 1 + 2)
    assert prompt(CHAT, {"messages": messages}, chars) == TokenCount(expected, ("tools",))


def test_fields_nobody_knows_count_as_their_json_and_say_so() -> None:
    assert prompt(CHAT, user("12345", weight=10), chars) == TokenCount(15 + 2, ("other",))
    assert prompt(CHAT, user([{"type": "video"}]), chars) == TokenCount(3 + 4 + 3 + 16, ("other",))


def test_an_endpoint_without_a_rule_is_counted_as_its_json() -> None:
    assert prompt("/v1/audio/speech", {"input": "abc"}, chars) == TokenCount(15, ("endpoint",))
    assert reply("/v1/audio/speech", {}, chars) == TokenCount(0, ("endpoint",))


# ---------------------------------------------------------------- replies


def test_a_reply_counts_over_all_choices() -> None:
    choices = [{"message": {"role": "assistant", "content": "12345"}}, {"message": {"content": "678"}}]
    assert reply(CHAT, {"choices": choices}, chars) == TokenCount(8)


def test_a_reply_counts_reasoning_once_and_refusals() -> None:
    message = {"content": None, "reasoning": "1234", "reasoning_content": "1234", "refusal": "no"}
    assert reply(CHAT, {"choices": [{"message": message}]}, chars) == TokenCount(6)


def test_a_reply_counts_calls_and_marks_them() -> None:
    message = {
        "content": None,
        "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{}"}}],
        "function_call": {"name": "g", "arguments": "[]"},
    }
    assert reply(CHAT, {"choices": [{"message": message}]}, chars) == TokenCount(6, ("tools",))


def test_content_in_parts_counts_its_text() -> None:
    message = {"content": [{"type": "text", "text": "123"}]}
    assert reply(CHAT, {"choices": [{"message": message}]}, chars) == TokenCount(3)
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "12345"}]}
    message["content"].insert(0, thought)
    assert reply(CHAT, {"choices": [{"message": message}]}, chars) == TokenCount(8)


def test_a_completion_counts_its_texts() -> None:
    assert reply(COMPLETIONS, {"choices": [{"text": "12345"}, {"text": "678"}]}, chars) == TokenCount(8)


def test_embeddings_generate_nothing() -> None:
    assert reply("/v1/embeddings", {"data": [{"embedding": [0.1]}]}, chars) == TokenCount(0)


# ---------------------------------------------------------------- before an encoding is there


def test_a_guess_goes_by_the_characters_rounded_up() -> None:
    assert guess({"prompt": "12345"}) == 2
    assert guess(user("12345")) == 3 + 3 + 3


def test_token_ids_weigh_as_tokens_and_images_as_nothing() -> None:
    assert guess({"prompt": [1, 2, 3]}) == 3
    image = {"type": "image_url", "image_url": {"url": "data:" + "A" * 10_000}}
    assert characters(user([image])) == len("user") + len("image_url")


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
    *("type", "image_url", "input_audio", "file", "refusal", "detail", "arguments"),
]
LIKELY_JSON = st.recursive(
    st.none() | st.integers() | JSON_TEXT | st.sampled_from(KNOWN_KEYS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOWN_KEYS), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(
    path=st.sampled_from([CHAT, COMPLETIONS, "/v1/embeddings", "/v1/else"]),
    body=st.dictionaries(st.sampled_from(KNOWN_KEYS), ANY_JSON | LIKELY_JSON, max_size=5),
)
def test_no_body_makes_counting_fail(path: str, body: dict[str, Any]) -> None:
    for count in (prompt(path, body, text), reply(path, body, text)):
        assert count.tokens >= 0
    assert guess(body) >= 0


def test_a_body_nested_deeper_than_json_goes_is_counted_by_its_characters() -> None:
    deep: Any = "12345678"
    for _ in range(5000):
        deep = [deep]
    assert prompt(CHAT, user("12345") | {"tools": deep}, chars) == TokenCount(15 + 2, ("tools",))
    assert prompt(CHAT, user(deep), chars).estimated == ("other",)
