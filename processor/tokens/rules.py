"""The rules: how many tokens a request's prompt and its reply are.

Pure: what a text counts is given as ``text``. Nothing here raises, whatever JSON a body is. What the provider does not
publish is an estimate, and each reason for one is named in ``TokenCount.estimated``:

``tools``       definitions and calls of tools and functions: counted as their JSON, or name and arguments
``schema``      a response format's JSON schema: counted as its JSON
``images``, ``audio``, ``files``   a fixed number each, see PART_TOKENS
``other``       a field or part that is not known: counted as its JSON
``endpoint``    an endpoint with no rule here: the request counted as its JSON, the reply as nothing
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import orjson

from processor.core.models import JSON
from processor.core.text import CHARS_PER_TOKEN

CountText = Callable[[str], int]

PRIMING_TOKENS = 3
"""Every reply is primed with ``<|start|>assistant<|message|>``."""

_PROMPT_FIELDS = ("messages", "prompt", "input", "tools", "functions")

LOW_DETAIL_TOKENS = 85
PART_TOKENS = {
    # As OpenAI counts 1024 x 1024 pixels: 4 tiles of 170 and 85. Low detail is 85, whatever the size.
    "image_url": ("images", 765),
    # Half a minute of speech at 10 tokens a second.
    "input_audio": ("audio", 300),
    # Two or three pages of text.
    "file": ("files", 1500),
}


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens, and why they are an estimate, if they are."""

    tokens: int
    estimated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overhead:
    """What a message costs beside its values."""

    message: int = 3
    name: int = 1


OVERHEAD = Overhead()
OVERHEAD_0301 = Overhead(message=4, name=-1)
"""gpt-3.5-turbo-0301: ``<|start|>{role/name}\\n{content}<|end|>\\n``; a name takes the role's place."""


def prompt(path: str, body: JSON, text: CountText, overhead: Overhead = OVERHEAD) -> TokenCount:
    """The prompt's tokens, once, however many choices are asked for."""
    why: set[str] = set()
    if path.endswith("/chat/completions"):
        tokens = _chat(body, text, overhead, why)
    elif path.endswith("/completions"):
        tokens = _texts_or_ids(body.get("prompt"), text, why) + _texts_or_ids(body.get("suffix"), text, why)
    elif path.endswith(("/embeddings", "/moderations")):
        tokens = _texts_or_ids(body.get("input"), text, why)
    else:
        tokens = _as_json(body, text, why, "endpoint")
    return TokenCount(tokens, tuple(sorted(why)))


def reply(path: str, body: JSON, text: CountText) -> TokenCount:
    """The tokens generated, over all choices, from an assembled body."""
    if path.endswith(("/embeddings", "/moderations")):
        return TokenCount(0)
    if not path.endswith("/completions"):
        return TokenCount(0, ("endpoint",))
    why: set[str] = set()
    choices = body.get("choices")
    tokens = 0
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            tokens += _choice(choice, text, why)
    return TokenCount(tokens, tuple(sorted(why)))


def characters(body: JSON) -> int:
    """The characters of a request's prompt; a token id counts as CHARS_PER_TOKEN, an image or the like as nothing."""
    total = 0
    left: list[Any] = [body[key] for key in _PROMPT_FIELDS if key in body]
    while left:
        value = left.pop()
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, dict):
            left.extend(value.values() if PART_TOKENS.keys().isdisjoint(value) else _beside_parts(value))
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, int):
            total += CHARS_PER_TOKEN
    return total


def _beside_parts(value: JSON) -> list[Any]:
    return [inner for key, inner in value.items() if key not in PART_TOKENS]


def guess(body: JSON) -> int:
    """The prompt's tokens by its characters: for as long as no encoding is loaded."""
    messages = body.get("messages")
    overhead = OVERHEAD.message * len(messages) + PRIMING_TOKENS if isinstance(messages, list) else 0
    return ceil(characters(body) / CHARS_PER_TOKEN) + overhead


def _chat(body: JSON, text: CountText, overhead: Overhead, why: set[str]) -> int:
    """The cookbook's rule, https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken"""
    messages = body.get("messages")
    tokens = PRIMING_TOKENS
    for message in messages if isinstance(messages, list) else ():
        tokens += _message(message, text, overhead, why)
    for key in ("tools", "functions"):
        if body.get(key):
            tokens += _as_json(body[key], text, why, "tools")
    response_format = body.get("response_format")
    if isinstance(response_format, dict) and response_format.get("json_schema"):
        tokens += _as_json(response_format["json_schema"], text, why, "schema")
    return tokens


def _message(message: Any, text: CountText, overhead: Overhead, why: set[str]) -> int:
    tokens = overhead.message
    if not isinstance(message, dict):
        return tokens + _as_json(message, text, why)
    for key, value in message.items():
        if isinstance(value, str):
            tokens += text(value)
        elif value is not None:
            tokens += _value(key, value, text, why)
    return tokens + (overhead.name if message.get("name") is not None else 0)


def _value(key: str, value: Any, text: CountText, why: set[str]) -> int:
    """A message's field that is no text."""
    if key == "content" and isinstance(value, list):
        return sum(_part(part, text, why) for part in value)
    if key in ("tool_calls", "function_call"):
        return _calls(value, text, why)
    return _as_json(value, text, why)


def _part(part: Any, text: CountText, why: set[str]) -> int:
    if not isinstance(part, dict):
        return _as_json(part, text, why)
    for key in ("text", "refusal", "thinking"):
        if isinstance(part.get(key), str):
            return text(part[key])
    if isinstance(part.get("thinking"), list):
        return sum(_part(inner, text, why) for inner in part["thinking"])
    for key, (reason, tokens) in PART_TOKENS.items():
        if key in part:
            why.add(reason)
            low = isinstance(part[key], dict) and part[key].get("detail") == "low"
            return LOW_DETAIL_TOKENS if low else tokens
    return _as_json(part, text, why)


def _calls(value: Any, text: CountText, why: set[str]) -> int:
    """``tool_calls``, or the one older ``function_call``: names and arguments."""
    why.add("tools")
    tokens = 0
    for call in value if isinstance(value, list) else [value]:
        if isinstance(call, dict):
            named = call.get("function") or call.get("custom") or call
            values = named.values() if isinstance(named, dict) else ()
            tokens += sum(text(inner) for inner in values if isinstance(inner, str))
    return tokens


def _texts_or_ids(value: Any, text: CountText, why: set[str]) -> int:
    """A completions prompt: a text, a list of texts, a list of token ids, or a list of such lists."""
    if isinstance(value, str):
        return text(value)
    if not isinstance(value, list):
        return 0 if value is None else _as_json(value, text, why)
    tokens = 0
    for item in value:
        if isinstance(item, str):
            tokens += text(item)
        elif isinstance(item, int):
            tokens += 1
        elif isinstance(item, list):
            tokens += len(item)
        else:
            tokens += _as_json(item, text, why)
    return tokens


def _choice(choice: JSON, text: CountText, why: set[str]) -> int:
    message = choice.get("message")
    if not isinstance(message, dict):
        generated = choice.get("text")
        return text(generated) if isinstance(generated, str) else 0
    tokens = 0
    for value in (message.get("content"), message.get("reasoning_content") or message.get("reasoning")):
        if isinstance(value, str):
            tokens += text(value)
        elif value:
            tokens += _value("content", value, text, why)
    if isinstance(message.get("refusal"), str):
        tokens += text(message["refusal"])
    for key in ("tool_calls", "function_call"):
        if message.get(key):
            tokens += _calls(message[key], text, why)
    return tokens


def _as_json(value: Any, text: CountText, why: set[str], reason: str = "other") -> int:
    why.add(reason)
    try:
        return text(orjson.dumps(value).decode())
    except TypeError:  # nested too deeply, a huge number, half a surrogate pair
        return ceil(characters({"input": value}) / CHARS_PER_TOKEN)
