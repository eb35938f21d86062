"""Replies of twelve shapes and of any size, as the bytes of a response's body."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from itertools import cycle
from typing import Any

import orjson

from tests.support.http_exchange import DONE

WORDS = ["the", "library", "answers", "each", "of", "the", "many", "requests", "that", "readers", "send", "to", "it"]


def _event(delta: dict[str, Any], index: int = 0, **fields: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": None, **fields}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: %b\n\n" % orjson.dumps(chunk)


def _end(reason: str = "stop", choices: int = 1) -> bytes:
    return b"".join(_event({}, index, finish_reason=reason) for index in range(choices)) + DONE


def _filled(pieces: list[bytes], size: int) -> bytes:
    """So many of the pieces, in turn, that they have about this size."""
    return b"".join(pieces) * max(1, size // sum(map(len, pieces)))


def _words(size: int) -> bytes:
    return _filled([_event({"content": f" {word}"}) for word in WORDS], size) + _end()


def _alternating(size: int) -> bytes:
    pairs = [(_event({"content": f" {word}"}), _event({"reasoning": f"{word} "}, extra=1)) for word in WORDS]
    return _filled([event for pair in pairs for event in pair], size) + _end()


def _one_chunk(size: int) -> bytes:
    return _event({"content": " ".join(WORDS) * (size // 70)}) + _end()


def _logprob(word: str) -> dict[str, Any]:
    top = [{"token": word, "logprob": -0.25 * number, "bytes": [*word.encode()]} for number in range(5)]
    return {"token": word, "logprob": -0.0123456, "bytes": [*word.encode()], "top_logprobs": top}


def _logprobs(size: int) -> bytes:
    words = [f" {word}" for word in WORDS]
    return _filled([_event({"content": w}, logprobs={"content": [_logprob(w)]}) for w in words], size) + _end()


def _call(number: int, arguments: str) -> dict[str, Any]:
    function = {"name": "look_up", "arguments": arguments}
    return {"index": number, "id": f"call_{number}", "type": "function", "function": function}


def _call_in_pieces(size: int) -> bytes:
    pieces = [_event({"tool_calls": [{"index": 0, "function": {"arguments": f" {word}"}}]}) for word in WORDS]
    return _event({"tool_calls": [_call(0, "{")]}) + _filled(pieces, size) + _end("tool_calls")


def _calls(size: int) -> list[dict[str, Any]]:
    return [_call(number, f'{{"shelf": "{"x" * 80}"}}') for number in range(max(1, size // 190))]


def _many_calls(size: int) -> bytes:
    return b"".join(_event({"tool_calls": [call]}) for call in _calls(size)) + _end("tool_calls")


def _calls_in_one_event(size: int) -> bytes:
    return _event({"tool_calls": _calls(size)}) + _end("tool_calls")


def _parts(size: int) -> bytes:
    kinds = cycle(("thinking", "text"))
    parts = [{"type": (kind := next(kinds)), kind: f" {word}"} for word in WORDS]
    return _filled([_event({"content": [part]}) for part in parts], size) + _end()


def _eight_choices(size: int) -> bytes:
    return _filled([_event({"content": f" {word}"}, index) for word in WORDS for index in range(8)], size) + _end(
        choices=8
    )


def _whole(message: dict[str, Any], **fields: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop", **fields}
    return orjson.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})


def _whole_text(size: int) -> bytes:
    return _whole({"content": " ".join(WORDS) * (size // 70)})


def _whole_logprobs(size: int) -> bytes:
    entry = _logprob(" the")
    return _whole({"content": "x"}, logprobs={"content": [entry] * (size // len(orjson.dumps(entry)))})


SHAPES: dict[str, Callable[[int], bytes]] = {
    "words": _words,
    "chunks of two kinds in turn": _alternating,
    "all text in one chunk": _one_chunk,
    "log probabilities": _logprobs,
    "one tool call in pieces": _call_in_pieces,
    "many tool calls": _many_calls,
    "many tool calls in one chunk": _calls_in_one_event,
    "parts in turn": _parts,
    "eight choices in turn": _eight_choices,
    "whole: text": _whole_text,
    "whole: log probabilities": _whole_logprobs,
    "words, compressed": lambda size: gzip.compress(_words(size), 6),
}
"""By name: makes a body of about so many bytes, before it is compressed."""
