"""Deltas → the value they are the pieces of."""

from __future__ import annotations

from typing import Any

from processor.core.errors import ProtocolError
from processor.core.models import JSON
from processor.protocols.parts import ContentParts, TextChunks, are_parts

MAX_INDEX = 65_535
"""More choices or tool calls than any server makes."""
NOT_CONCATENATED = frozenset({"id", "index", "role", "type"})
"""Not pieces: some servers repeat them in every delta, or send them empty after the first."""


IN_PARTS = frozenset({"content", "thinking"})
"""May be a list of parts instead of a text."""


class ToolCalls(dict[int, JSON]):
    """Tool calls in the making, by index."""


def merge(into: JSON, delta: JSON) -> None:
    """Add one delta: strings and lists grow, objects merge, of anything else the last one stands.

    Owns what it is given. A null says nothing, except that there is such a field.
    """
    for name, value in delta.items():
        known = into.get(name)
        if value is None:
            into.setdefault(name, None)
        elif name in NOT_CONCATENATED:
            into[name] = known or value
        elif isinstance(value, str):
            if isinstance(known, TextChunks):
                known.append(value)
            else:
                into[name] = _more_text(known, value)
        elif name == "tool_calls":
            into[name] = _merge_calls(known if isinstance(known, ToolCalls) else ToolCalls(), value)
        elif isinstance(value, dict):
            into[name] = known if isinstance(known, dict) else {}
            merge(into[name], value)
        else:
            into[name] = _longer(name, known, value) if isinstance(value, list) else value


def _more_text(known: Any, text: str) -> Any:
    return (
        _merge_parts(known, [{"type": "text", "text": text}])
        if isinstance(known, ContentParts)
        else TextChunks((text,))
    )


def _longer(name: str, known: Any, value: list[Any]) -> list[Any]:
    if name in IN_PARTS and are_parts(value):
        return _merge_parts(known if isinstance(known, ContentParts) else ContentParts(known), value)
    if type(known) is not list:
        return value
    known.extend(value)
    return known


def settled(making: JSON) -> JSON:
    """The same, made: strings joined, tool calls listed by index."""
    return {name: _made(value) for name, value in making.items()}


def index_of(piece: JSON, default: int) -> int:
    """Where a choice or tool call belongs. Raises ProtocolError."""
    index = piece.get("index", default)
    if type(index) is not int or not 0 <= index <= MAX_INDEX:
        raise ProtocolError(f"the index of a choice or tool call is {index!r:.40}")
    return index


def _merge_calls(calls: ToolCalls, pieces: Any) -> ToolCalls:
    if not isinstance(pieces, list):
        raise ProtocolError("tool_calls is no list")
    for piece in pieces:
        if not isinstance(piece, dict):
            raise ProtocolError("a piece of a tool call is no object")
        index = index_of(piece, _next_index(calls, piece))
        piece.pop("index", None)
        merge(calls.setdefault(index, {}), piece)
    return calls


def _merge_parts(parts: ContentParts, pieces: list[JSON]) -> ContentParts:
    for piece in pieces:
        if piece.get("type") == "text" and isinstance(piece.get("text"), str):
            parts.said.append(piece["text"])
        if parts.begins(piece):
            parts.append({})
        merge(parts[-1], piece)
    return parts


def _next_index(calls: ToolCalls, piece: JSON) -> int:
    """For servers that send no index: a new id begins the next call, anything else belongs to the last one."""
    last = max(calls, default=-1)
    if last < 0 or ("id" in piece and piece["id"] not in (None, "", calls[last].get("id"))):
        return last + 1
    return last


def _made(value: Any) -> Any:
    if isinstance(value, TextChunks):
        return "".join(value)
    if isinstance(value, ToolCalls):
        return [settled(call) for _, call in sorted(value.items())]
    if isinstance(value, ContentParts):
        return [_made(part) for part in value]
    return settled(value) if isinstance(value, dict) else value
