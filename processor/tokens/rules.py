"""Counts the tokens of the values that requests and replies consist of. Each protocol applies these to its fields.

Pure: how many tokens a text has is given as ``count_text``. Nothing here raises, for any JSON. What the provider does
not publish is an estimate, and the reason for each estimate is named in ``TokenCount.estimate_reasons``:

``tools``       definitions and calls of tools and functions: counted as their JSON, or name and arguments
``schema``      a response format's JSON schema: counted as its JSON
``images``      an image whose size, or whose model's rule, is not known: see ``images``
``audio``       counted by its length: see ``audio``
``files``, ``video``   a fixed number each, see PART_TOKENS
``reasoning``   hidden reasoning, of which nothing is counted
``echo``        a reply that repeats the prompt in a way that cannot be taken off exactly
``best_of``     replies that were generated, charged and not sent
``prediction``  predicted tokens that were charged and not used
``overhead``    messages of an API that does not publish what it adds to them: estimated
``other``       an unknown field or part: counted as its JSON
``not_loaded``  the encoding is not loaded yet: counted by the characters
``unknown_model``   tiktoken does not know the model: counted with the fallback encoding
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON
from processor.core.text import CHARS_PER_TOKEN
from processor.tokens.audio import HEARD_TOKENS_PER_S, count_audio
from processor.tokens.images import count_image

CountText = Callable[[str], int]

NOT_LOADED = "not_loaded"
UNKNOWN_MODEL = "unknown_model"

PART_TOKENS = {
    # Two or three pages of text.
    "file": ("files", 1500),
    "document": ("files", 1500),
    # Ten seconds at 258 tokens a second, as Gemini counts.
    "video_url": ("video", 2580),
    "video": ("video", 2580),
}
"""Parts that have a fixed number of tokens: the reason, and the number."""
_IMAGE_KEYS = ("image_url", "image")
_AUDIO_KEYS = ("input_audio", "audio_url", "audio")
_NOT_TEXT = frozenset({"image_url", "input_audio", "audio_url", "video_url", "file", "source"})
"""Keys of a part whose value is no text of the prompt. ``source``: of an image or a document."""


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


def count_characters(value: Any) -> int:
    """Characters of all texts in a value. A token id counts as CHARS_PER_TOKEN, an image or the like as nothing."""
    total = 0
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            values = value.values() if _NOT_TEXT.isdisjoint(value) else _text_fields(value)
            try:
                total += len("".join(values))  # a message of texts, as most are: without a step for each
            except TypeError:
                pending.extend(values)
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str):
            total += len(value)
        elif isinstance(value, int):
            total += CHARS_PER_TOKEN
    return total


def count_part(part: Any, counter: ModelCounter, reasons: set[str]) -> int:
    """One part of a message's content."""
    if not isinstance(part, dict):
        return count_as_json(part, counter.count_text, reasons)
    for key in ("text", "refusal", "thinking"):
        if isinstance(part.get(key), str):
            return counter.count_text(part[key])
    if isinstance(part.get("thinking"), list):
        return sum(count_part(inner, counter, reasons) for inner in part["thinking"])
    tokens = _count_media(part, counter.base_model, reasons)
    return count_as_json(part, counter.count_text, reasons) if tokens is None else tokens


def _count_media(part: JSON, base_model: str, reasons: set[str]) -> int | None:
    """The tokens of a part that is an image, audio, video or a file; None where it is something else."""
    if part.get("type") in ("image", "document") and isinstance(part.get("source"), dict):
        part = {part["type"]: part["source"]}
    for key in _IMAGE_KEYS:
        if key in part:
            image = part[key]
            if isinstance(image, str) and "detail" in part:
                image = {"url": image, "detail": part["detail"]}
            counted = count_image(image, base_model)
            if not counted.is_exact:
                reasons.add("images")
            return counted.tokens
    for key in _AUDIO_KEYS:
        if key in part:
            reasons.add("audio")
            return count_audio(part[key], HEARD_TOKENS_PER_S)
    for key, (reason, tokens) in PART_TOKENS.items():
        if key in part:
            reasons.add(reason)
            return tokens
    return None


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
        return tokens_in(count_characters(value))


def _text_fields(part: JSON) -> list[Any]:
    return [value for key, value in part.items() if key not in _NOT_TEXT]
