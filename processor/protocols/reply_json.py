"""Decodes the JSON of replies and events, within bounds on its memory and nesting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from processor.core import large_json
from processor.core.errors import ProtocolError
from processor.core.json_bytes import loads_exactly, may_have_long_integer
from processor.core.models import JSON
from processor.core.text import excerpt
from processor.protocols.json_size import MemoryBound, may_be_dense
from processor.protocols.lenient_json import loads_lenient

_MAX_DEPTH = large_json.MAX_DEPTH
"""Far below the depth at which Python's recursion or orjson's serializer fails."""
_MAX_CONTAINERS = 16
_MAX_UNCOUNTED_BYTES = 4096
"""Values with more objects and lists, or more bytes, are counted against the bound on a reply's memory."""


def parse_object(data: bytes, subject: str = "an event") -> JSON:
    """Parse a JSON object. Raises ProtocolError, with ``subject`` in its message."""
    return as_object(parse_value(data, subject), data, subject)


def as_object(value: Any, data: bytes, subject: str = "an event") -> JSON:
    """The parsed value of ``data``, which must be an object. Raises ProtocolError."""
    if not isinstance(value, dict):
        raise ProtocolError(f"{subject} is not a JSON object: {excerpt(data)}")
    return value


def parse_plain_objects(events: Sequence[bytes]) -> list[JSON] | None:
    """Parse small, flat JSON objects, as nearly all events are. None where ``parse_value`` must look more closely at
    one of them. The bounds hold for them on the average."""
    data, count = b"\n".join(events), len(events)
    if len(data) > _MAX_UNCOUNTED_BYTES * count:
        return None
    if data.count(b"{") + data.count(b"[") > min(_MAX_CONTAINERS * count, _MAX_DEPTH) or may_have_long_integer(data):
        return None
    try:
        values = list(map(orjson.loads, events))
    except orjson.JSONDecodeError:
        return None
    return values if set(map(type, values)) == {dict} else None


def parse_value(
    data: bytes, subject: str = "an event", altered: set[str] | None = None, memory: MemoryBound | None = None
) -> Any:
    """Parse any JSON. Raises ProtocolError, with ``subject`` in its message; ReplyTooLarge before it is decoded.

    With ``altered``, JSON that is nearly right is read as well: see ``lenient_json``. ``memory`` counts what a reply of
    several values takes.
    """
    # Counting brackets is cheap, and nearly always shows that the value need not be looked at more closely.
    containers = data.count(b"{") + data.count(b"[")
    may_be_inexact = may_have_long_integer(data)  # first, as it takes memory, too
    if containers > _MAX_CONTAINERS or len(data) > _MAX_UNCOUNTED_BYTES:
        if memory is not None:
            memory.add(data)
        elif may_be_dense(data):
            MemoryBound().add(data)
    try:
        value, may_be_deep = _loads(data, containers)
    except orjson.JSONDecodeError as error:
        try:
            if altered is None:
                raise
            value, may_be_deep = loads_lenient(data, altered), containers > _MAX_DEPTH
        except ValueError:
            raise ProtocolError(f"{subject} is not JSON ({error}): {excerpt(data)}") from None
    if may_be_deep and not _is_shallow(value):
        raise ProtocolError(f"{subject} is nested more than {_MAX_DEPTH} deep: {excerpt(data)}")
    return loads_exactly(data) if may_be_inexact and not altered else value


def _loads(data: bytes, containers: int) -> tuple[Any, bool]:
    """The value, and whether it may be nested too deep. Raises JSONDecodeError."""
    if len(data) > large_json.PIECE_BYTES:
        try:
            return large_json.loads(data), False
        except large_json.NotDecoded:
            pass
    return orjson.loads(data), containers > _MAX_DEPTH


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [
            item
            for node in level
            for item in (node.values() if type(node) is dict else node)
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return True
    return False
