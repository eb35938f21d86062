"""Merges the deltas of a stream into the value they are pieces of.

Content may come as a text or as a list of parts, `[{"type": "thinking", ...}, {"type": "text", "text": ...}]`, as
reasoning models send it (https://docs.mistral.ai/capabilities/reasoning). A stream sends the parts in pieces, with
plain strings for text between them; the unstreamed body has one part for each run of pieces of the same type.
"""

from __future__ import annotations

from typing import Any

from processor.core.errors import ProtocolError
from processor.core.models import JSON
from processor.protocols.tool_calls import ToolCalls

MAX_INDEX = 65_535
"""Largest index of a choice or tool call that is accepted: more than any server makes."""
NOT_CONCATENATED = frozenset({"id", "index", "role", "type"})
"""String fields that are not pieces of a text: some servers repeat them in every delta, or send them empty later."""
PART_FIELDS = frozenset({"content", "thinking"})
"""Fields that may be a list of parts instead of a text."""
CONCATENATED_PARTS = frozenset({"text", "thinking"})
"""Types of parts whose neighbours are pieces of one part. A part of any other type is complete by itself."""


class TextChunks(list[str]):
    """The chunks of a string. Appending to a str inside a dict would copy it every time."""

    __slots__ = ()


class ContentParts(list[JSON]):
    """Unfinished content parts. ``text``: the chunks of their text, without the thinking."""

    __slots__ = ("text",)

    def __init__(self, text_before: object = None) -> None:
        """``text_before``: what came as plain text before the first part."""
        super().__init__()
        self.text = text_before if isinstance(text_before, TextChunks) else TextChunks()
        if any(self.text):
            self.append({"type": "text", "text": TextChunks(self.text)})

    def starts_new_part(self, piece: JSON) -> bool:
        """Whether the piece does not continue the last part."""
        part_type = piece.get("type")
        return not self or part_type not in CONCATENATED_PARTS or part_type != self[-1].get("type")


def merge(into: JSON, delta: JSON) -> None:
    """Merge one delta: strings and lists are concatenated, objects are merged, any other value replaces the old one.

    Takes ownership of ``delta``. A null adds the field, but does not replace a value.
    """
    for name, value in delta.items():
        known = into.get(name)
        if type(known) is TextChunks and type(value) is str:  # nearly all
            if value:
                known.append(value)
        elif value is None:
            into.setdefault(name, None)
        elif name in NOT_CONCATENATED:
            into[name] = known or value
        elif isinstance(value, str):
            into[name] = _append_text(known, value)
        elif name == "tool_calls":
            into[name] = _merge_tool_calls(known if isinstance(known, ToolCalls) else ToolCalls(merge), value)
        elif isinstance(value, dict):
            into[name] = known if isinstance(known, dict) else {}
            merge(into[name], value)
        else:
            into[name] = _append_list(name, known, value) if isinstance(value, list) else value


def finalize(merged: JSON) -> JSON:
    """The finished value: chunks joined to strings, tool calls listed in the order of their index."""
    return {name: value if type(value) is str else _finalize(value) for name, value in merged.items()}


def read_index(piece: JSON, default: int) -> int:
    """The index of a choice or tool call. Raises ProtocolError."""
    index = piece.get("index")
    if index is None:
        return default
    if type(index) is not int:
        index = _as_integer(index)
    if index is None or not 0 <= index <= MAX_INDEX:
        raise ProtocolError(f"the index of a choice or tool call is {piece['index']!r:.40}")
    return index


def _as_integer(index: Any) -> int | None:
    """The index where it is sent as `"0"` or `0.0`."""
    if isinstance(index, str) and index.isascii() and index.isdigit() and len(index) <= len(str(MAX_INDEX)):
        return int(index)
    return int(index) if isinstance(index, float) and index.is_integer() else None


def are_parts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, dict) and "type" in part for part in value)


def as_parts(content: Any) -> list[JSON] | None:
    """Content that is neither text nor parts with their types, as parts; None where it cannot be read.

    Some servers send parts without a type, plain strings among them, or a single part without a list.
    """
    parts = []
    for item in content if isinstance(content, list) else [content]:
        part = {"type": "text", "text": item} if isinstance(item, str) else item
        if not isinstance(part, dict):
            if part is None:
                continue
            return None
        if not isinstance(part.get("type"), str):
            kind = next((name for name in ("text", "thinking") if isinstance(part.get(name), str)), None)
            if kind is None:
                return None
            part = {**part, "type": kind}
        parts.append(part)
    return parts


def join_text_parts(content: Any) -> Any:
    """The joined text of a list that holds only plain text parts; anything else unchanged."""
    if isinstance(content, list) and all(_is_plain_text(part) for part in content):
        return "".join(part["text"] for part in content)
    return content


def _is_plain_text(part: Any) -> bool:
    is_part = isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    return is_part and len(part) == 2


def _append_text(known: Any, text: str) -> Any:
    return (
        _merge_parts(known, [{"type": "text", "text": text}])
        if isinstance(known, ContentParts)
        else TextChunks((text,))
    )


def _append_list(name: str, known: Any, value: list[Any]) -> list[Any]:
    if name in PART_FIELDS and are_parts(value):
        return _merge_parts(known if isinstance(known, ContentParts) else ContentParts(known), value)
    if type(known) is not list:
        return value
    known.extend(value)
    return known


def _merge_tool_calls(calls: ToolCalls, pieces: Any) -> ToolCalls:
    if not isinstance(pieces, list):
        raise ProtocolError("tool_calls is not a list")
    for piece in pieces:
        if piece is None:
            continue
        if not isinstance(piece, dict):
            raise ProtocolError("a piece of a tool call is not an object")
        calls.add(piece, None if piece.get("index") is None else read_index(piece, 0))
    return calls


def _merge_parts(parts: ContentParts, pieces: list[JSON]) -> ContentParts:
    for piece in pieces:
        if piece.get("type") == "text" and isinstance(piece.get("text"), str):
            parts.text.append(piece["text"])
        if parts.starts_new_part(piece):
            parts.append({})
        merge(parts[-1], piece)
    return parts


def _finalize(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, TextChunks):
        return "".join(value)
    if isinstance(value, ToolCalls):
        return [finalize(call) for call in value.pop_in_order()]
    if isinstance(value, ContentParts):
        return [_finalize(part) for part in value]
    return finalize(value) if isinstance(value, dict) else value
