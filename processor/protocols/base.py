"""What every protocol's fold can do: a stream's payloads go in, the body of the same reply unstreamed comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from processor.core.errors import ProtocolError
from processor.core.models import JSON

_MAX_DEPTH = 100
"""Far from what makes Python's recursion or orjson's writer give up."""


class Accumulator(Protocol):
    """One reply in the making. Sees no bytes but whole payloads; knows no time."""

    @property
    def started(self) -> bool:
        """A first piece of generated content (text, reasoning, refusal, tool call) has come."""

    @property
    def ended(self) -> bool:
        """The stream's end marker has come: nothing that follows matters."""

    @property
    def complete(self) -> bool:
        """Nothing of the answer is missing. Token usage and the end marker may still follow."""

    def feed(self, payloads: Sequence[bytes]) -> None:
        """Raises ProtocolError, or the StatusError of an error told inside the stream."""

    def take_text(self) -> str:
        """The first choice's text since this was last called."""

    def body(self) -> JSON:
        """The assembled body. Raises StreamTruncated while not complete, ProtocolError where there is nothing."""


def parse(payload: bytes, what: str = "an event") -> JSON:
    """A payload that must be a JSON object. Raises ProtocolError."""
    try:
        value: Any = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"{what} is no JSON ({error}): {excerpt(payload)}") from None
    if not isinstance(value, dict):
        raise ProtocolError(f"{what} is no JSON object: {excerpt(payload)}")
    # Counting brackets is cheap, and shows nearly always that there is nothing to walk through.
    if payload.count(b"{") + payload.count(b"[") > _MAX_DEPTH and not _is_shallow(value, _MAX_DEPTH):
        raise ProtocolError(f"{what} is nested more than {_MAX_DEPTH} deep: {excerpt(payload)}")
    return value


def _is_shallow(value: Any, depth: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth >= 0 and all(_is_shallow(child, depth - 1) for child in children)


def excerpt(data: bytes, length: int = 80) -> str:
    """The beginning of some bytes, fit for a one-line message."""
    text = " ".join(data[: 4 * length].decode("utf-8", "replace").split())
    readable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return readable if len(readable) <= length else readable[: length - 1] + "…"
