"""Renders completions as the bodies of unstreamed replies. Pure."""

from __future__ import annotations

import orjson

from processor.core.models import JSON
from processor.simulator.completion import (
    Completion,
    CompletionChoice,
    CountTokens,
    count_prompt_tokens,
    generate_completion,
)
from processor.simulator.messages_replies import messages_body
from processor.simulator.request_parser import api_kind_of, parse
from processor.simulator.responses_replies import responses_body
from processor.simulator.settings import SimulatorSettings
from processor.simulator.tool_calls import ToolCall
from processor.simulator.ungenerated import UNGENERATED


def expected_body(
    path: str, request: JSON, settings: SimulatorSettings, count_tokens: CountTokens | None = None
) -> JSON:
    """The non-streamed body that answers a request body.

    Raises InvalidRequest, and ValueError for a path that is not served.
    """
    api_kind = api_kind_of(path)
    if api_kind is None:
        raise ValueError(f"{path} is not served")
    parsed = parse(path, api_kind, orjson.dumps(request))
    if (make_body := UNGENERATED.get(api_kind)) is not None:
        return make_body(parsed, settings, count_prompt_tokens(parsed, count_tokens))
    return non_streamed_body(generate_completion(parsed, settings, count_tokens))


def non_streamed_body(completion: Completion) -> JSON:
    """The body that answers a request with `"stream": false`."""
    if completion.api_kind == "responses":
        return responses_body(completion)
    if completion.api_kind == "messages":
        return messages_body(completion)
    is_chat = completion.api_kind == "chat"
    choices = [_chat_choice_json(choice) if is_chat else _text_choice_json(choice) for choice in completion.choices]
    kind = "chat.completion" if is_chat else "text_completion"
    return {**completion.top, "object": kind, "choices": choices, "usage": completion.usage}


def _chat_choice_json(choice: CompletionChoice) -> JSON:
    no_content = choice.refusal or choice.calls or choice.function_call
    message: JSON = {
        "role": "assistant",
        "content": None if no_content else "".join(choice.content),
        "refusal": "".join(choice.refusal) or None,
    }
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if choice.calls:
        message["tool_calls"] = [{"id": c.id, "type": "function", "function": _call_json(c)} for c in choice.calls]
    if choice.function_call:
        message["function_call"] = _call_json(choice.function_call)
    return {"index": choice.index, "message": message, "logprobs": None, "finish_reason": choice.finish_reason}


def _call_json(call: ToolCall) -> JSON:
    return {"name": call.name, "arguments": "".join(call.arguments)}


def _text_choice_json(choice: CompletionChoice) -> JSON:
    text = "".join(choice.content)
    return {"index": choice.index, "text": text, "logprobs": None, "finish_reason": choice.finish_reason}
