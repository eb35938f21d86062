"""Content that is told in parts, `[{"type": "thinking", ...}, {"type": "text", "text": ...}]`, as reasoning models do.

https://docs.mistral.ai/capabilities/reasoning: a stream sends the parts in pieces, and plain strings for text beside
them; unstreamed there is one part for each stretch of a kind.
"""

from __future__ import annotations

from typing import Any

from processor.core.models import JSON

GROWING = frozenset({"text", "thinking"})
"""Kinds of parts whose neighbours are pieces of one. Of any other kind every part is whole."""


class TextChunks(list[str]):
    """A string in the making. Adding to a str in a dict would copy it every time."""


class ContentParts(list[JSON]):
    """Parts in the making. ``said``: the pieces of their text, without the thinking."""

    def __init__(self, known: object = None) -> None:
        """``known``: what had been said as plain text before."""
        super().__init__()
        self.said = known if isinstance(known, TextChunks) else TextChunks()
        if any(self.said):
            self.append({"type": "text", "text": TextChunks(self.said)})

    def begins(self, part: JSON) -> bool:
        """Whether it is no piece of the part before."""
        kind = part.get("type")
        return not self or kind not in GROWING or kind != self[-1].get("type")


def are_parts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, dict) and "type" in part for part in value)


def plain(content: Any) -> Any:
    """Parts that are nothing but text are that text."""
    if isinstance(content, list) and all(_is_text(part) for part in content):
        return "".join(part["text"] for part in content)
    return content


def _is_text(part: Any) -> bool:
    is_part = isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    return is_part and len(part) == 2
