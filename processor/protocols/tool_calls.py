"""Assembles the pieces of tool calls, also those of servers that send no index, one index for all calls, or no id.

A new id begins a new call, as does a name after arguments that are complete; anything else continues the last call that
was begun under the same index. The exception is a new id beside a piece of unfinished arguments without a name: some
servers make an id for every piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from processor.core.errors import ProtocolError
from processor.core.models import JSON

MAX_CALLS = 65_536
_MAX_CHECKED_BYTES = 4 * 1024 * 1024
"""Arguments are parsed to see whether they are complete, for so many bytes a reply: a bound on the work."""
_MAX_NAME_PIECES = 64
"""A name in more pieces is not compared with the next one: that would take quadratic time."""


class Call:
    """One unfinished call. ``index`` orders the calls; calls with the same one stay in the order they began in.

    ``fields``: its merged pieces. While there is only one it stays as it came: many calls come whole, and take twice
    the memory once they are open for more.
    """

    __slots__ = ("fields", "index", "is_open")

    def __init__(self, index: int, piece: JSON) -> None:
        self.index = index
        self.fields = piece
        self.is_open = False

    @property
    def function(self) -> JSON:
        function = self.fields.get("function")
        return function if isinstance(function, dict) else {}


class ToolCalls:
    """``merge`` adds a piece to the fields of its call."""

    __slots__ = ("_by_id", "_checked_bytes", "_last", "_last_by_index", "_merge", "_next_index", "calls")

    def __init__(self, merge: Callable[[JSON, JSON], None]) -> None:
        self._merge = merge
        self.calls: list[Call] = []
        self._by_id: dict[tuple[int | None, str], Call] = {}
        self._last_by_index: dict[int, Call] = {}
        self._last: Call | None = None
        self._next_index = 0
        self._checked_bytes = 0

    def add(self, piece: JSON, index: int | None) -> None:
        """Merge one piece, whose ``index`` is None where it has none. Takes ownership of it. Raises ProtocolError."""
        call_id = piece.get("id")
        call_id = call_id if isinstance(call_id, str) and call_id else None
        call = self._call_of(piece, index, call_id)
        if call_id is not None:
            self._by_id.setdefault((index, call_id), call)
        piece.pop("index", None)
        if call.fields is piece:
            return
        self._open(call)
        self._drop_repeated_name(call, piece)
        self._merge(call.fields, piece)

    def pop_in_order(self) -> Iterator[JSON]:
        """The merged fields of each call. They are given up one by one, so that what is made of them can take their
        place."""
        self._by_id.clear()
        self._last_by_index.clear()
        self.calls.sort(key=lambda call: call.index)
        self.calls.reverse()
        while self.calls:
            call = self.calls.pop()
            self._open(call)
            yield call.fields

    def _open(self, call: Call) -> None:
        if not call.is_open:
            piece, call.fields, call.is_open = call.fields, {}, True
            self._merge(call.fields, piece)

    def _call_of(self, piece: JSON, index: int | None, call_id: str | None) -> Call:
        call = self._last if index is None else self._last_by_index.get(index)
        if call_id is not None and (known := self._by_id.get((index, call_id))) is not None:
            call = known
        elif call is None or self._begins_call(piece, call_id, call):
            call = self._begin(index, piece)
        self._last = call
        if index is not None:
            self._last_by_index[index] = call
        return call

    def _begin(self, index: int | None, piece: JSON) -> Call:
        if len(self.calls) >= MAX_CALLS:
            raise ProtocolError(f"the reply has more than {MAX_CALLS:,} tool calls")
        call = Call(self._next_index if index is None else index, piece)
        self._next_index = max(self._next_index, call.index + 1)
        self.calls.append(call)
        return call

    def _begins_call(self, piece: JSON, call_id: str | None, call: Call) -> bool:
        """Whether the piece begins a new call, rather than continuing ``call``."""
        name, arguments = _field(piece, "name"), _field(piece, "arguments")
        known_id = call.fields.get("id")
        if call_id is not None and known_id:
            return bool(name) or not arguments or self._has_complete_arguments(call)
        if not name or not call.function.get("arguments"):
            return False
        known_name = _known_name(call)
        return self._has_complete_arguments(call) or (bool(known_name) and name != known_name and _has_text(call))

    def _has_complete_arguments(self, call: Call) -> bool:
        arguments = call.function.get("arguments")
        if isinstance(arguments, dict):
            return True
        if not arguments or self._checked_bytes > _MAX_CHECKED_BYTES or (text := _text(arguments)) is None:
            return False
        self._checked_bytes += len(text) + len(arguments)
        try:
            return isinstance(orjson.loads(text), dict)
        except ValueError:
            return False

    @staticmethod
    def _drop_repeated_name(call: Call, piece: JSON) -> None:
        function = piece.get("function")
        if not isinstance(function, dict) or not function.get("name"):
            return
        if function["name"] == _known_name(call):
            del function["name"]


def _field(piece: JSON, name: str) -> Any:
    function = piece.get("function")
    return function.get(name) if isinstance(function, dict) else None


def _text(pieces: Any) -> str | None:
    """A text that came whole or in pieces; None for anything else."""
    if isinstance(pieces, list) and all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    return pieces if isinstance(pieces, str) else None


def _known_name(call: Call) -> str:
    """Empty where it has too many pieces."""
    name = call.function.get("name")
    return "" if isinstance(name, list) and len(name) > _MAX_NAME_PIECES else _text(name) or ""


def _has_text(call: Call) -> bool:
    arguments = call.function.get("arguments")
    return isinstance(arguments, str | list) and any(arguments)
