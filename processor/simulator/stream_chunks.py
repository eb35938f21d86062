"""Cuts a completion into the chunks of a stream, each with the time since the one before. Pure.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import zip_longest
from typing import NamedTuple

from processor.core.models import JSON
from processor.simulator.completion import Completion, CompletionChoice
from processor.simulator.messages_replies import messages_events
from processor.simulator.responses_replies import responses_events
from processor.simulator.tool_calls import ToolCall


class Chunk(NamedTuple):
    delay_s: float
    data: JSON


def stream_chunks(
    completion: Completion, token_s: float, *, include_usage: bool, quirks: Collection[str]
) -> list[Chunk]:
    """The chunks of all choices, interleaved: each choice sends one piece every `token_s`; usage comes last."""
    head = {**completion.top, "object": "chat.completion.chunk" if completion.api_kind == "chat" else "text_completion"}
    if include_usage and "no_usage" not in quirks:
        # As the API documents it, all chunks but the last carry a null.
        head["usage"] = None
    pieces = _interleave(completion, token_s, quirks)
    chunks = [Chunk(delay_s, {**head, "choices": [piece]}) for delay_s, piece in pieces]
    if "no_usage" in quirks:
        return chunks
    if "usage_on_last_chunk" in quirks:
        chunks[-1].data["usage"] = completion.usage
    elif include_usage:
        chunks.append(Chunk(0.0, {**head, "choices": [], "usage": completion.usage}))
    return chunks


def stream_events(completion: Completion, token_s: float, quirks: Collection[str]) -> list[Chunk]:
    """The events of an API whose events name their type. The first token is sent with what comes before it."""
    chunks: list[Chunk] = []
    has_begun = False
    events = responses_events if completion.api_kind == "responses" else messages_events
    for is_token, data in events(completion, quirks):
        chunks.append(Chunk(token_s if is_token and has_begun else 0.0, data))
        has_begun = has_begun or is_token
    return chunks


def _interleave(completion: Completion, token_s: float, quirks: Collection[str]) -> Iterator[tuple[float, JSON]]:
    is_chat = completion.api_kind == "chat"
    pieces = [_message_pieces(c, quirks) if is_chat else _text_pieces(c) for c in completion.choices]
    for number, simultaneous in enumerate(zip_longest(*pieces)):
        # The first delta of a chat only names the role; it is sent with the first token.
        delay_s = token_s if number > is_chat else 0.0
        for piece in simultaneous:
            if piece is not None:
                yield delay_s, piece
                delay_s = 0.0


def _text_pieces(choice: CompletionChoice) -> Iterator[JSON]:
    for text in choice.content:
        yield {"index": choice.index, "text": text, "logprobs": None, "finish_reason": None}
    yield {"index": choice.index, "text": "", "logprobs": None, "finish_reason": choice.finish_reason}


def _message_pieces(choice: CompletionChoice, quirks: Collection[str]) -> Iterator[JSON]:
    for delta in _deltas(choice, quirks):
        yield {"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": None}
    yield {"index": choice.index, "delta": {}, "logprobs": None, "finish_reason": choice.finish_reason}


def _deltas(choice: CompletionChoice, quirks: Collection[str]) -> Iterator[JSON]:
    no_content = choice.calls or choice.function_call or choice.refusal
    first: JSON = {
        "role": "assistant",
        "content": None if no_content or "content_null" in quirks else "",
        "refusal": None,
    }
    if "no_role" in quirks:
        del first["role"]
    yield first
    for field, texts in (
        ("reasoning_content", choice.reasoning),
        ("content", choice.content),
        ("refusal", choice.refusal),
    ):
        for text in texts:
            yield {field: text}
    for index, call in enumerate(choice.calls):
        yield from _call_deltas(index, call)
    if choice.function_call:
        yield {"function_call": {"name": choice.function_call.name, "arguments": ""}}
        for text in choice.function_call.arguments:
            yield {"function_call": {"arguments": text}}


def _call_deltas(index: int, call: ToolCall) -> Iterator[JSON]:
    """The first delta carries the id and the name, the others pieces of the arguments."""
    opening = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
    yield {"tool_calls": [opening]}
    for text in call.arguments:
        yield {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
