from __future__ import annotations

from dataclasses import replace
from random import Random
from statistics import median
from typing import Any

import orjson
import pytest

from processor.core.models import JSON
from processor.simulator.reply_bodies import expected_body
from processor.simulator.request_parser import InvalidRequest, identity
from processor.simulator.schema_examples import make_example
from processor.simulator.settings import INSTANT, SimulatorSettings

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SETTINGS = SimulatorSettings()
TOOL = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 3}},
        "required": ["city", "days"],
    },
}


def chat(text: str = "What is a fjord?", **more: Any) -> JSON:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def replies(count: int, settings: SimulatorSettings = SETTINGS, **more: Any) -> list[JSON]:
    return [expected_body(CHAT, chat(f"Question {number}", **more), settings) for number in range(count)]


def test_same_request_gets_the_same_reply_streamed_or_not() -> None:
    asked = expected_body(CHAT, chat(), SETTINGS)
    assert asked == expected_body(CHAT, chat(stream=True, stream_options={"include_usage": True}), SETTINGS)
    assert asked == expected_body(CHAT, dict(reversed(chat().items())), SETTINGS)


def test_other_seed_or_prompt_gets_another_reply() -> None:
    asked = expected_body(CHAT, chat(), SETTINGS)
    assert asked["choices"] != expected_body(CHAT, chat(), replace(SETTINGS, seed=1))["choices"]
    assert asked["choices"] != expected_body(CHAT, chat("Why?"), SETTINGS)["choices"]


def test_reply_lengths_vary_within_bounds_and_most_are_short() -> None:
    lengths = [
        reply["usage"]["completion_tokens"]
        for reply in replies(400)
        if reply["choices"][0]["message"]["content"] is not None
    ]
    assert 20 <= min(lengths) < 40
    assert 60 < median(lengths) < 130
    assert 300 < max(lengths) < 430


def test_reply_starts_by_quoting_the_prompt() -> None:
    reply = expected_body(CHAT, chat("Some preface.\n\nName the largest lake in Finland please, now"), SETTINGS)
    assert reply["choices"][0]["message"]["content"].startswith("On “Name the largest lake in Finland”:")


def test_max_tokens_cuts_the_reply_with_finish_reason_length() -> None:
    for reply in replies(20, max_tokens=7):
        assert reply["choices"][0]["finish_reason"] == (
            "stop" if reply["choices"][0]["message"]["refusal"] else "length"
        )
    assert {r["usage"]["completion_tokens"] for r in replies(20, max_completion_tokens=7)} <= {7, 8}


def test_some_replies_are_non_ascii_and_some_are_refusals() -> None:
    messages = [reply["choices"][0]["message"] for reply in replies(400)]
    text = "".join(message["content"] or "" for message in messages)
    assert all(sample in text for sample in ("列車", "🎉", "👩‍💻", "Größe", "答案"))
    refusals = [message for message in messages if message["refusal"]]
    assert 0 < len(refusals) < 15
    assert refusals[0]["content"] is None


def test_n_choices_differ_and_usage_counts_all_of_them() -> None:
    reply = expected_body(CHAT, chat(n=3), SETTINGS)
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in reply["choices"]}) == 3
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] > 60


def test_reasoning_model_streams_reasoning_within_max_tokens() -> None:
    reply = expected_body(CHAT, {**chat(), "model": "deep-reasoner"}, SETTINGS)
    assert reply["choices"][0]["message"]["reasoning_content"].startswith("Let me think.")
    short = expected_body(CHAT, {**chat(max_tokens=3), "model": "deep-reasoner"}, SETTINGS)
    assert short["choices"][0]["message"]["content"] == ""


def test_offered_tools_are_sometimes_called_with_matching_arguments() -> None:
    made = replies(60, tools=[{"type": "function", "function": TOOL}])
    calls = [reply["choices"][0]["message"].get("tool_calls", []) for reply in made]
    assert 15 < sum(map(bool, calls)) < 45
    assert max(map(len, calls)) == 2
    for call in (call for several in calls for call in several):
        arguments = orjson.loads(call["function"]["arguments"])
        assert isinstance(arguments["city"], str)
        assert 1 <= arguments["days"] <= 3
        assert call["id"].startswith("call_")


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("none", set()),
        ("required", {"weather", "time"}),
        ({"type": "function", "function": {"name": "time"}}, {"time"}),
    ],
)
def test_tool_choice_is_obeyed(choice: Any, called: set[str]) -> None:
    tools = [{"type": "function", "function": TOOL}, {"type": "function", "function": {"name": "time"}}]
    messages = [reply["choices"][0]["message"] for reply in replies(20, tools=tools, tool_choice=choice)]
    assert {call["function"]["name"] for message in messages for call in message.get("tool_calls", ())} == called


def test_functions_of_the_older_api_are_called() -> None:
    choices = [reply["choices"][0] for reply in replies(20, functions=[TOOL], function_call={"name": "weather"})]
    assert {choice["finish_reason"] for choice in choices} == {"function_call"}
    assert orjson.loads(choices[0]["message"]["function_call"]["arguments"])["city"] is not None


def test_response_format_json_gets_json() -> None:
    for wanted in (
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"schema": {"properties": {"answer": {}}, "required": ["answer"]}}},
    ):
        contents = [reply["choices"][0]["message"]["content"] for reply in replies(20, response_format=wanted)]
        assert all("answer" in orjson.loads(content) for content in contents if content)


def test_completions_return_n_choices_for_every_prompt() -> None:
    reply = expected_body(COMPLETIONS, {"model": "m", "prompt": ["First", "Second"], "n": 2}, SETTINGS)
    assert [choice["text"].split("”")[0] for choice in reply["choices"]] == ["On “First"] * 2 + ["On “Second"] * 2
    assert reply["object"] == "text_completion"


def test_prompt_of_token_numbers_is_one_prompt() -> None:
    reply = expected_body(COMPLETIONS, {"model": "m", "prompt": [1, 2, 3]}, SETTINGS)
    assert len(reply["choices"]) == 1
    assert reply["usage"]["prompt_tokens"] == 3


def test_count_tokens_counts_the_prompt() -> None:
    body = chat([{"type": "text", "text": "one two three"}, {"type": "image_url", "image_url": {}}])  # type: ignore[arg-type]
    assert expected_body(CHAT, body, SETTINGS, lambda text: len(text.split()))["usage"]["prompt_tokens"] == 3
    assert expected_body(CHAT, body, SETTINGS)["usage"]["prompt_tokens"] == 4


def test_canned_replies_are_identical() -> None:
    assert len({orjson.dumps(reply) for reply in replies(3, INSTANT)}) == 1


def test_expected_body_of_an_unknown_path_raises_value_error() -> None:
    with pytest.raises(ValueError, match="not served"):
        expected_body("/v1/haikus", {}, SETTINGS)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": [{"role": "user"}]}, "model"),
        (CHAT, {"model": "m"}, "messages"),
        (CHAT, {"model": "m", "messages": []}, "messages"),
        (CHAT, {"model": "m", "messages": ["hello"]}, "messages[0].role"),
        (CHAT, chat(n=0), "n"),
        (CHAT, chat(n=129), "n"),
        (CHAT, chat(n=True), "n"),
        (CHAT, chat(max_tokens="10"), "max_tokens"),
        (CHAT, chat(stream="yes"), "stream"),
        (CHAT, chat(stream_options={}), "stream_options"),
        (CHAT, chat(stream=True, stream_options=[]), "stream_options"),
        (CHAT, chat(stream=True, stream_options={"include_usage": 1}), "include_usage"),
        (COMPLETIONS, {"model": "m", "prompt": ""}, "prompt"),
        (COMPLETIONS, {"model": "m", "prompt": ["a", {}]}, "prompt"),
    ],
)
def test_invalid_request_error_names_the_field(path: str, body: JSON, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        expected_body(path, body, SETTINGS)
    assert refused.value.param == param


def test_identity_depends_on_path_and_body_but_not_on_stream_flags() -> None:
    assert identity(CHAT, chat()) == identity(CHAT, chat(stream=True, stream_options={}))
    assert len({identity(CHAT, chat()), identity(COMPLETIONS, chat()), identity(CHAT, chat("x"))}) == 3


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        ({"const": 7}, lambda value: value == 7),
        ({"enum": ["a", "b"]}, lambda value: value in ("a", "b")),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, lambda value: value in (None, True, False)),
        ({"type": ["integer", "null"]}, lambda value: value is None or 0 <= value <= 100),
        ({"type": "number", "minimum": 2.5, "maximum": 3}, lambda value: 2 <= value <= 3.5),
        ({"type": "array", "items": {"type": "integer"}}, lambda value: 1 <= len(value) <= 3),
        ({"type": "object"}, lambda value: value == {}),
        ({"type": "nonsense"}, lambda value: isinstance(value, str)),
        ({"type": {}, "minimum": "a"}, lambda value: isinstance(value, str)),
        ({"type": "integer", "minimum": "a", "maximum": []}, lambda value: 0 <= value <= 100),
        ({"properties": 3, "required": 4}, lambda value: value == {}),
        ("no schema", lambda value: isinstance(value, str)),
    ],
)
def test_example_matches_its_schema(schema: Any, fits: Any) -> None:
    assert all(fits(make_example(schema, Random(seed))) for seed in range(20))


def test_example_of_a_recursive_schema_is_finite() -> None:
    endless: JSON = {"type": "object", "properties": {}, "required": []}
    endless["properties"]["next"] = {"type": "array", "items": endless}
    for seed in range(20):
        orjson.dumps(make_example(endless, Random(seed)))
