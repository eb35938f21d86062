"""Renders completions as the Messages API sends them: as a body, and as the events of a stream. Pure.

https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from hashlib import blake2b

import orjson

from processor.core.models import JSON
from processor.simulator.completion import Completion, CompletionChoice
from processor.simulator.responses_replies import Event

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def messages_body(completion: Completion) -> JSON:
    (choice,) = completion.choices
    return {
        **_head(completion),
        "content": _blocks(choice),
        "stop_reason": _stop_reason(choice),
        "stop_sequence": None,
        "usage": {**_input_usage(completion), "output_tokens": completion.usage["completion_tokens"]},
    }


def messages_events(completion: Completion, quirks: Collection[str]) -> Iterator[Event]:
    (choice,) = completion.choices
    has_usage = "no_usage" not in quirks
    begun = {**_head(completion), "content": [], "stop_reason": None, "stop_sequence": None}
    if has_usage:
        begun["usage"] = {**_input_usage(completion), "output_tokens": 1}
    yield False, {"type": "message_start", "message": begun}
    yield False, {"type": "ping"}
    for index, block in enumerate(_blocks(choice)):
        yield from _block_events(index, block, choice)
    end: JSON = {
        "type": "message_delta",
        "delta": {"stop_reason": _stop_reason(choice), "stop_sequence": None},
    }
    if has_usage:
        end["usage"] = {"output_tokens": completion.usage["completion_tokens"]}
    yield False, end
    if "no_done" not in quirks:
        yield False, {"type": "message_stop"}


def _block_events(index: int, block: JSON, choice: CompletionChoice) -> Iterator[Event]:
    place = {"index": index}
    empty = {
        name: {} if name == "input" else "" for name in ("text", "thinking", "signature", "input") if name in block
    }
    yield False, {"type": "content_block_start", **place, "content_block": {**block, **empty}}
    for delta in _deltas(block, choice):
        yield delta["type"] != "signature_delta", {"type": "content_block_delta", **place, "delta": delta}
    yield False, {"type": "content_block_stop", **place}


def _deltas(block: JSON, choice: CompletionChoice) -> Iterator[JSON]:
    if block["type"] == "thinking":
        yield from ({"type": "thinking_delta", "thinking": text} for text in choice.reasoning)
        yield {"type": "signature_delta", "signature": block["signature"]}
    elif block["type"] == "tool_use":
        call = next(call for call in choice.calls if call.id == block["id"])
        yield from ({"type": "input_json_delta", "partial_json": text} for text in call.arguments)
    else:
        yield from ({"type": "text_delta", "text": text} for text in choice.refusal or choice.content)


def _head(completion: Completion) -> JSON:
    top = completion.top
    return {"id": f"msg_{top['id'][-24:]}", "type": "message", "role": "assistant", "model": top["model"]}


def _input_usage(completion: Completion) -> JSON:
    cache = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"input_tokens": completion.usage["prompt_tokens"], **cache, "service_tier": "standard"}


def _stop_reason(choice: CompletionChoice) -> str:
    return "refusal" if choice.refusal else _STOP_REASONS[choice.finish_reason]


def _blocks(choice: CompletionChoice) -> list[JSON]:
    blocks: list[JSON] = []
    if choice.reasoning:
        thinking = "".join(choice.reasoning)
        signature = blake2b(thinking.encode(), digest_size=16).hexdigest()
        blocks.append({"type": "thinking", "thinking": thinking, "signature": signature})
    for call in choice.calls:
        arguments = orjson.loads("".join(call.arguments))
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments})
    if not choice.calls:
        blocks.append({"type": "text", "text": "".join(choice.refusal or choice.content)})
    return blocks
