"""Where each API's requests hold a schema, what their replies' output is, and how they are asked again."""

from __future__ import annotations

from typing import Any

import pytest

from processor.core.models import JSON
from processor.protocols import protocol_for
from processor.protocols.structured_output import correction

CHAT, COMPLETIONS, RESPONSES, MESSAGES = (
    f"/v1/{name}" for name in ("chat/completions", "completions", "responses", "messages")
)
SCHEMA = {"type": "object", "required": ["a"]}
OTHER = {"type": "array"}
FUNCTION = {"name": "f", "parameters": SCHEMA}
CHAT_TOOLS = [{"type": "function", "function": FUNCTION}]
ASKED = {"messages": [{"role": "user", "content": "Q"}]}


@pytest.mark.parametrize(
    ("path", "body", "schema"),
    [
        (CHAT, {}, None),
        (CHAT, {"response_format": {"type": "text"}}, None),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}, SCHEMA),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, None),
        (CHAT, {"response_format": {"type": "json_object"}}, {"type": "object"}),
        (CHAT, {"response_format": {"type": "json_object", "schema": SCHEMA}}, SCHEMA),
        (CHAT, {"response_format": "json"}, None),
        (CHAT, {"tools": CHAT_TOOLS, "tool_choice": "auto"}, None),
        (CHAT, {"tools": CHAT_TOOLS}, None),
        (CHAT, {"tools": CHAT_TOOLS, "tool_choice": "required"}, SCHEMA),
        (CHAT, {"tools": CHAT_TOOLS * 2, "tool_choice": "required"}, None),
        (CHAT, {"tools": CHAT_TOOLS, "tool_choice": {"type": "function", "function": {"name": "f"}}}, SCHEMA),
        (CHAT, {"tools": CHAT_TOOLS, "tool_choice": {"type": "function", "function": {"name": "g"}}}, None),
        (CHAT, {"functions": [FUNCTION], "function_call": {"name": "f"}}, SCHEMA),
        (CHAT, {"functions": [FUNCTION], "function_call": "auto"}, None),
        (RESPONSES, {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}}, SCHEMA),
        (RESPONSES, {"text": {"format": {"type": "text"}}}, None),
        (RESPONSES, {"tools": [{"type": "function", **FUNCTION}], "tool_choice": "required"}, SCHEMA),
        (
            RESPONSES,
            {"tools": [{"type": "function", **FUNCTION}], "tool_choice": {"type": "function", "name": "f"}},
            SCHEMA,
        ),
        (MESSAGES, {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, SCHEMA),
        (MESSAGES, {"output_format": {"type": "json_schema", "schema": SCHEMA}}, SCHEMA),
        (MESSAGES, {"output_config": {"effort": "low"}}, None),
        (MESSAGES, {"tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "any"}}, SCHEMA),
        (
            MESSAGES,
            {"tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "tool", "name": "f"}},
            SCHEMA,
        ),
        (MESSAGES, {"tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "auto"}}, None),
        (COMPLETIONS, {"prompt": "Q"}, None),
        ("/v1/embeddings", {"input": "Q"}, None),
    ],
)
def test_schema_of_a_request(path: str, body: JSON, schema: Any) -> None:
    assert protocol_for(path).output_schema(body) == schema


def test_forced_tool_comes_before_the_format() -> None:
    body = {
        "tools": CHAT_TOOLS,
        "tool_choice": "required",
        "response_format": {"type": "json_schema", "json_schema": {"schema": OTHER}},
    }
    assert protocol_for(CHAT).output_schema(body) == SCHEMA


def message(**fields: Any) -> JSON:
    return {"choices": [{"message": {"role": "assistant", **fields}, "finish_reason": "stop"}]}


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
FORCED = {**ASKED, "tools": CHAT_TOOLS, "tool_choice": "required"}


@pytest.mark.parametrize(
    ("path", "request_body", "reply", "outputs"),
    [
        (CHAT, ASKED, message(content="[1]"), ["[1]"]),
        (CHAT, ASKED, message(content=None), [""]),
        (CHAT, ASKED, message(content=[{"type": "text", "text": "["}, {"type": "text", "text": "1]"}]), ["[1]"]),
        (CHAT, ASKED, message(content=None, tool_calls=[CALL, CALL]), ['{"a": 1}']),
        (CHAT, ASKED, message(content="[1]", tool_calls=[CALL]), ["[1]"]),
        (CHAT, FORCED, message(content="I call f", tool_calls=[CALL]), ['{"a": 1}']),
        (CHAT, FORCED, message(content="I call nothing"), ["I call nothing"]),
        (CHAT, ASKED, message(content=None, tool_calls=[{"function": {"arguments": {"a": 1}}}]), ['{"a":1}']),
        (CHAT, ASKED, {"choices": [*message(content="1")["choices"], *message(content="2")["choices"]]}, ["1", "2"]),
        (COMPLETIONS, {"prompt": "Q"}, {"choices": [{"text": "[1]"}]}, ["[1]"]),
        (
            RESPONSES,
            {"input": "Q"},
            {
                "output": [
                    {"type": "reasoning"},
                    {"type": "message", "content": [{"type": "output_text", "text": "[1]"}]},
                ]
            },
            ["[1]"],
        ),
        (RESPONSES, {"input": "Q"}, {"output": [{"type": "function_call", "arguments": "{}"}]}, ["{}"]),
        (MESSAGES, ASKED, {"content": [{"type": "thinking"}, {"type": "text", "text": "[1]"}]}, ["[1]"]),
        (MESSAGES, ASKED, {"content": [{"type": "tool_use", "input": {"a": 1}}]}, ['{"a":1}']),
        (
            MESSAGES,
            {"messages": [*ASKED["messages"], {"role": "assistant", "content": '{"a'}]},
            {"content": [{"type": "text", "text": '": 1}'}]},
            ['{"a": 1}'],
        ),
    ],
)
def test_outputs_of_a_reply(path: str, request_body: JSON, reply: JSON, outputs: list[str]) -> None:
    assert protocol_for(path).outputs(reply, request_body) == outputs


AGAIN = [{"role": "assistant", "content": "{"}, {"role": "user", "content": "no"}]
ITEMS = [{"type": "message", **message} for message in AGAIN]


@pytest.mark.parametrize(
    ("path", "body", "again"),
    [
        (CHAT, {**ASKED, "n": 2}, {"messages": [*ASKED["messages"], *AGAIN], "n": 2}),
        (MESSAGES, ASKED, {"messages": [*ASKED["messages"], *AGAIN]}),
        (
            MESSAGES,
            {"messages": [*ASKED["messages"], {"role": "assistant", "content": "{"}]},
            {"messages": [*ASKED["messages"], *AGAIN]},
        ),
        (RESPONSES, {"input": "Q"}, {"input": [{"role": "user", "content": "Q"}, *ITEMS]}),
        (RESPONSES, {"input": [{"type": "x"}]}, {"input": [{"type": "x"}, *ITEMS]}),
        (RESPONSES, {"previous_response_id": "r"}, {"previous_response_id": "r", "input": ITEMS}),
        (RESPONSES, {"input": "Q", "conversation": "c"}, None),
        (COMPLETIONS, {"prompt": "Q"}, {"prompt": "Q{\n\nno\n\n"}),
        (COMPLETIONS, {"prompt": ["Q", "R"]}, None),
    ],
)
def test_asking_again_adds_the_output_and_what_is_wrong(path: str, body: JSON, again: JSON | None) -> None:
    before = repr(body)
    assert protocol_for(path).ask_again(body, "{", "no") == again
    assert repr(body) == before


def test_empty_output_is_not_repeated() -> None:
    again = protocol_for(CHAT).ask_again(ASKED, " \n", "no")
    assert again == {"messages": [*ASKED["messages"], AGAIN[1]]}


def test_correction_names_each_problem() -> None:
    assert correction(["/a: is wrong", "/b: too"]).splitlines()[1:3] == ["- /a: is wrong", "- /b: too"]


@pytest.mark.parametrize(
    ("path", "reply", "is_refused"),
    [
        (CHAT, message(content="1"), False),
        (CHAT, message(content=None, refusal="No."), True),
        (CHAT, {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}, True),
        (MESSAGES, {"content": [], "stop_reason": "refusal"}, True),
        (MESSAGES, {"content": [], "stop_reason": "end_turn"}, False),
        (RESPONSES, {"status": "completed", "output": [{"content": [{"type": "refusal", "refusal": "No."}]}]}, True),
        (RESPONSES, {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []}, True),
        (RESPONSES, {"status": "completed", "output": []}, False),
    ],
)
def test_refusals_are_recognized(path: str, reply: JSON, is_refused: bool) -> None:
    assert protocol_for(path).is_refused(reply) is is_refused
