"""What all protocols share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from processor.core.errors import ProtocolError
from processor.core.models import JSON
from processor.core.text import one_line

_MAX_DEPTH = 100
"""Far below the depth at which Python's recursion or orjson's serializer fails."""
_EXCERPT_CHARS = 80


class Accumulator(Protocol):
    """Assembles the events of a stream to the body that the same reply has unstreamed. Knows neither bytes nor time."""

    @property
    def has_content(self) -> bool:
        """Generated content (text, reasoning, a refusal, a tool call) has come."""

    @property
    def saw_end_marker(self) -> bool:
        """The stream's end marker has come: events behind it are ignored."""

    @property
    def is_complete(self) -> bool:
        """Nothing of the reply is missing. Token usage and the end marker may still follow."""

    def feed(self, events: Sequence[bytes]) -> None:
        """Take the data of the next events. Raises ProtocolError, or the StatusError of an error event."""

    def pop_text(self) -> str:
        """The text of the first choice that has come since the last call."""

    def result(self) -> JSON:
        """The assembled body. Raises StreamTruncated while it is not complete, ProtocolError where it is empty."""


def parse_object(data: bytes, subject: str = "an event") -> JSON:
    """Parse a JSON object. Raises ProtocolError, with ``subject`` in its message."""
    try:
        value: Any = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"{subject} is not JSON ({error}): {excerpt(data)}") from None
    if not isinstance(value, dict):
        raise ProtocolError(f"{subject} is not a JSON object: {excerpt(data)}")
    # Counting brackets is cheap, and nearly always shows that the value need not be walked through.
    if data.count(b"{") + data.count(b"[") > _MAX_DEPTH and not _is_shallow(value, _MAX_DEPTH):
        raise ProtocolError(f"{subject} is nested more than {_MAX_DEPTH} deep: {excerpt(data)}")
    return value


def _is_shallow(value: Any, depth: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth >= 0 and all(_is_shallow(child, depth - 1) for child in children)


def excerpt(data: bytes) -> str:
    """The beginning of a payload, for an error message."""
    return one_line(data[:320].decode("utf-8", "replace"), _EXCERPT_CHARS)
