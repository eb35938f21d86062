"""Reads streams whose events name their type, as those of Responses and Messages do. Subclasses assemble the body."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from processor.core.errors import ProtocolError, ReplyTooLarge
from processor.core.models import JSON
from processor.protocols.inband_errors import error_in_line, raise_error_in
from processor.protocols.json_size import MemoryBound
from processor.protocols.lenient_json import join_halves, joined_text
from processor.protocols.reply_json import as_object, parse_value
from processor.protocols.sse import ERROR_MARK

_CHAT_END_MARKER = b"[DONE]"
"""Gateways send it behind the streams of other APIs too. It says nothing there."""
_MAX_QUICK_BYTES, _MAX_QUICK_CONTAINERS = 4096, 16
"""Events with more are counted against the bounds on memory and depth."""


class TypedEventAccumulator(ABC):
    """An event is an object with a ``type``. Those of unknown type are ignored; an object without one is an error or
    means nothing."""

    delta_beginnings: ClassVar[tuple[bytes, ...]]
    """How the most frequent events begin. They are read without what rare ones need."""

    def __init__(self) -> None:
        self._memory = MemoryBound()
        self._text: list[str] = []
        """Pieces of text that ``pop_text`` has not returned."""
        self.altered: set[str] = set()
        self.has_content = False
        self.saw_end_marker = False

    @property
    def is_complete(self) -> bool:
        return self.saw_end_marker

    def feed(self, events: Sequence[bytes]) -> None:
        for event in events:
            if self.saw_end_marker:
                return
            if not (event.startswith(self.delta_beginnings) and self._feed_delta(event)):
                self._feed_event(event.strip())

    def pop_text(self) -> str:
        text = "".join(self._text)
        self._text.clear()
        return joined_text(text, set()) if "surrogate" in self.altered else text

    def result(self) -> JSON:
        body = self._assemble()
        return join_halves(body, self.altered) if "surrogate" in self.altered else body

    @abstractmethod
    def _on_event(self, kind: str, event: JSON) -> None:
        """Take an event of this type. Raises ProtocolError, StatusError."""

    @abstractmethod
    def _assemble(self) -> JSON:
        """The body. Raises what ``Accumulator.result`` raises."""

    def _feed_delta(self, event: bytes) -> bool:
        """Take an event of the most frequent kind; False where it needs to be looked at more closely."""
        if len(event) > _MAX_QUICK_BYTES or event.count(b"{") + event.count(b"[") > _MAX_QUICK_CONTAINERS:
            return False
        try:
            value = orjson.loads(event)
        except orjson.JSONDecodeError:
            return False
        self._on_event(value["type"], value)
        return True

    def _feed_event(self, event: bytes) -> None:
        if not event or event == _CHAT_END_MARKER:
            return
        if event.startswith(ERROR_MARK):
            raise error_in_line(event.removeprefix(ERROR_MARK))
        altered: set[str] = set()
        try:
            value = parse_value(event, altered=altered, memory=self._memory)
        except ProtocolError as error:
            lines = event.split(b"\n")
            if len(lines) == 1 or isinstance(error, ReplyTooLarge):
                raise
            self.feed(lines)  # events that are separated by single line ends
            return
        if altered:
            self.altered |= altered
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind == "error" or value.get("error"):
            raise_error_in(value, is_altered=bool(altered))
            as_object(value, event)
            return
        self._on_event(kind, value)

    def _add_text(self, text: str) -> None:
        self.has_content = True
        self._text.append(text)


def object_in(event: JSON, name: str) -> JSON:
    """The object that every event of this type has. Raises ProtocolError."""
    value: Any = event.get(name)
    if not isinstance(value, dict):
        raise ProtocolError(f"an event of the type {event.get('type')!r:.60} has no {name}")
    return value
