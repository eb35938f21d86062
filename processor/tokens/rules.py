"""Counts the tokens of the values that requests and replies consist of. Each protocol applies these to its fields.

Pure: how many tokens a text has is given as ``count_text``. Nothing here raises, for any JSON. What the provider does
not publish is an estimate, and the reason for each estimate is named in ``TokenCount.estimate_reasons``:

``tools``       definitions and calls of tools and functions: counted as their JSON, or name and arguments
``schema``      a response format's JSON schema: counted as its JSON
``images``, ``audio``, ``files``   a fixed number each, see PART_TOKENS
``other``       an unknown field or part: counted as its JSON
``not_loaded``  the encoding is not loaded yet: counted by the characters
``unknown_model``   tiktoken does not know the model: counted with the fallback encoding
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from processor.core.models import JSON
from processor.core.text import CHARS_PER_TOKEN

CountText = Callable[[str], int]

NOT_LOADED = "not_loaded"
UNKNOWN_MODEL = "unknown_model"

LOW_DETAIL_TOKENS = 85
PART_TOKENS = {
    # As OpenAI counts 1024 x 1024 pixels: 4 tiles of 170 and 85. Low detail is 85, for any size.
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
    estimate_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCounter:
    """How tokens are counted for one model."""

    count_text: CountText
    base_model: str
    """The model's name without provider, fine-tuning and variant."""
    is_loaded: bool
    """``count_text`` uses an encoding; if not, it goes by the characters."""
    is_known: bool
    """tiktoken knows the model's encoding; if not, it is the fallback."""

    def token_count(self, tokens: int, reasons: set[str]) -> TokenCount:
        """``reasons``: why the rules of the API make the count an estimate."""
        if not self.is_loaded:
            return TokenCount(tokens, (NOT_LOADED, *sorted(reasons)))
        if not self.is_known:
            return TokenCount(tokens, (*sorted(reasons), UNKNOWN_MODEL))
        return TokenCount(tokens, tuple(sorted(reasons)) if reasons else ())


def tokens_in(characters: int) -> int:
    """Tokens of a text by its length, rounded up."""
    return -(-characters // CHARS_PER_TOKEN)


def count_characters(values: list[Any]) -> int:
    """Characters of all texts in the values. A token id counts as CHARS_PER_TOKEN, an image or the like as nothing.

    Empties ``values``.
    """
    total = 0
    pending = values
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, dict):
            pending.extend(value.values() if PART_TOKENS.keys().isdisjoint(value) else _text_fields(value))
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, int):
            total += CHARS_PER_TOKEN
    return total


def count_part(part: Any, count_text: CountText, reasons: set[str]) -> int:
    """One part of a message's content."""
    if not isinstance(part, dict):
        return count_as_json(part, count_text, reasons)
    for key in ("text", "refusal", "thinking"):
        if isinstance(part.get(key), str):
            return count_text(part[key])
    if isinstance(part.get("thinking"), list):
        return sum(count_part(inner, count_text, reasons) for inner in part["thinking"])
    for key, (reason, tokens) in PART_TOKENS.items():
        if key in part:
            reasons.add(reason)
            is_low_detail = isinstance(part[key], dict) and part[key].get("detail") == "low"
            return LOW_DETAIL_TOKENS if is_low_detail else tokens
    return count_as_json(part, count_text, reasons)


def count_calls(value: Any, count_text: CountText, reasons: set[str]) -> int:
    """Names and arguments of ``tool_calls``, or of the single, older ``function_call``."""
    reasons.add("tools")
    tokens = 0
    for call in value if isinstance(value, list) else [value]:
        if isinstance(call, dict):
            function = call.get("function") or call.get("custom") or call
            values = function.values() if isinstance(function, dict) else ()
            tokens += sum(count_text(inner) for inner in values if isinstance(inner, str))
    return tokens


def count_texts_or_ids(value: Any, count_text: CountText, reasons: set[str]) -> int:
    """A text, a list of texts, a list of token ids, or a list of such lists."""
    if isinstance(value, str):
        return count_text(value)
    if not isinstance(value, list):
        return 0 if value is None else count_as_json(value, count_text, reasons)
    tokens = 0
    for item in value:
        if isinstance(item, str):
            tokens += count_text(item)
        elif isinstance(item, int):
            tokens += 1
        elif isinstance(item, list):
            tokens += len(item)
        else:
            tokens += count_as_json(item, count_text, reasons)
    return tokens


def count_as_json(value: Any, count_text: CountText, reasons: set[str], reason: str = "other") -> int:
    reasons.add(reason)
    try:
        return count_text(orjson.dumps(value).decode())
    except TypeError:  # nested too deeply, a huge number, half a surrogate pair
        return tokens_in(count_characters([value]))


def _text_fields(part: JSON) -> list[Any]:
    return [value for key, value in part.items() if key not in PART_TOKENS]
