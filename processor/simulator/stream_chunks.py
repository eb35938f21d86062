"""A reply as the chunks in which it streams, each with the time since the one before. Pure.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import zip_longest
from typing import NamedTuple

from processor.core.models import JSON
from processor.simulator.completion import Completion, CompletionChoice
from processor.simulator.tool_calls import ToolCall


class Chunk(NamedTuple):
    delay_s: float
    data: JSON


def chunks(said: Completion, token_s: float, *, include_usage: bool, manners: Collection[str]) -> list[Chunk]:
    """The choices interleave: each says one piece every `token_s`. The usage, where asked for, comes last."""
    head = {**said.top, "object": "chat.completion.chunk" if said.chat else "text_completion"}
    if include_usage and "no_usage" not in manners:
        # As the API documents it: all chunks but the last have a null.
        head["usage"] = None
    made = [Chunk(delay_s, {**head, "choices": [piece]}) for delay_s, piece in _interleaved(said, token_s, manners)]
    if "no_usage" in manners:
        return made
    if "usage_on_last_chunk" in manners:
        made[-1].data["usage"] = said.usage
    elif include_usage:
        made.append(Chunk(0.0, {**head, "choices": [], "usage": said.usage}))
    return made


def _interleaved(said: Completion, token_s: float, manners: Collection[str]) -> Iterator[tuple[float, JSON]]:
    pieces = [_message_pieces(c, manners) if said.chat else _text_pieces(c) for c in said.choices]
    for number, together in enumerate(zip_longest(*pieces)):
        # The first delta only names the role: it comes with the first token.
        delay_s = token_s if number > said.chat else 0.0
        for piece in together:
            if piece is not None:
                yield delay_s, piece
                delay_s = 0.0


def _text_pieces(choice: CompletionChoice) -> Iterator[JSON]:
    for text in choice.content:
        yield {"index": choice.index, "text": text, "logprobs": None, "finish_reason": None}
    yield {"index": choice.index, "text": "", "logprobs": None, "finish_reason": choice.finish_reason}


def _message_pieces(choice: CompletionChoice, manners: Collection[str]) -> Iterator[JSON]:
    for delta in _deltas(choice, manners):
        yield {"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": None}
    yield {"index": choice.index, "delta": {}, "logprobs": None, "finish_reason": choice.finish_reason}


def _deltas(choice: CompletionChoice, manners: Collection[str]) -> Iterator[JSON]:
    instead = choice.calls or choice.function_call or choice.refusal
    first: JSON = {
        "role": "assistant",
        "content": None if instead or "content_null" in manners else "",
        "refusal": None,
    }
    if "no_role" in manners:
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
    """The name comes whole, with the id; the arguments in pieces after it."""
    opening = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
    yield {"tool_calls": [opening]}
    for text in call.arguments:
        yield {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
