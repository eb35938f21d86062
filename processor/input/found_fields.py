"""Finds the id and the metadata of a line that is not a job, so that its failed row can be told apart."""

from __future__ import annotations

import json
from typing import Any

from processor.core.errors import InvalidJob
from processor.core.fast_dataclass import dataclass
from processor.core.json_bytes import MAX_DEPTH, is_nested_deeper
from processor.core.lazy_pattern import LazyPattern
from processor.core.models import JSON
from processor.input.line_json import custom_id_of, without_non_finite
from processor.protocols.lenient_json import join_halves

_KEPT = ("custom_id", "id", "metadata")
_SPACE = LazyPattern(r"[ \t\r\n\ufeff]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFields:
    """What a failed row keeps of its line."""

    custom_id: str | None = None
    metadata: Any = None
    has_metadata: bool = False
    altered: tuple[str, ...] = ()
    """What had to be changed of these fields: see ``line_json``; ``utf8``: an invalid byte is U+FFFD."""


NOTHING_FOUND = FoundFields()


def found_fields(data: bytes) -> FoundFields:
    """Return what is found in the members at the beginning of a line, up to the first that is not JSON."""
    # An invalid byte becomes half of a surrogate pair at first, so that it is told apart from the U+FFFD of a text.
    members = _leading_members(data.decode("utf-8", "surrogateescape"))
    kept = {name: members[name] for name in _KEPT if name in members and not _is_too_deep(members[name])}
    altered: set[str] = set()
    kept = without_non_finite(join_halves(kept, altered), altered)
    if "surrogate" in altered and not _is_utf8(data):
        altered ^= {"surrogate", "utf8"}
    try:
        custom_id = custom_id_of(kept)
    except InvalidJob:
        custom_id = None
    return FoundFields(
        custom_id=custom_id,
        metadata=kept.get("metadata"),
        has_metadata="metadata" in kept,
        altered=tuple(sorted(altered)),
    )


def _is_too_deep(value: Any) -> bool:
    """Whether the value would be nested too deeply within a row."""
    return is_nested_deeper(value, MAX_DEPTH - 1)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _leading_members(text: str) -> JSON:
    """Return the members of the object with which a text begins, up to the first that is not JSON."""
    members: JSON = {}
    decoder = json.JSONDecoder()
    at = _skip_space(text, 0)
    separator = "{"
    try:
        while text.startswith(separator, at):
            name, at = decoder.raw_decode(text, _skip_space(text, at + 1))
            at = _skip_space(text, at)
            if not isinstance(name, str) or not text.startswith(":", at):
                break
            members[name], at = decoder.raw_decode(text, _skip_space(text, at + 1))
            at = _skip_space(text, at)
            separator = ","
    except (ValueError, RecursionError):
        pass
    return members


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
