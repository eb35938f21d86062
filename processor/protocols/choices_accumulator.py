"""The fold of every endpoint that streams `choices`: what chat completions and completions have in common.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from processor.core.errors import ProtocolError, StreamTruncated
from processor.core.models import JSON
from processor.protocols.base import parse
from processor.protocols.chunk_fast_path import ChunkTemplate
from processor.protocols.delta_merge import index_of, merge, settled
from processor.protocols.error_mapping import error_from_event
from processor.protocols.parts import ContentParts, TextChunks

_NOT_CARRIED = frozenset({"error", "object", "obfuscation"})
_FIRST_STANDS = frozenset({"id", "created", "model"})
"""Some servers make new ones for every chunk."""
_FIRST_IN_BODY = ("id", "object", "created", "model", "choices")
_NOT_BESIDE = frozenset({"index", "delta", "text", "finish_reason", "error"})


class Choice:
    """One choice in the making."""

    __slots__ = ("beside", "content", "finish_reason")

    def __init__(self) -> None:
        self.content: JSON = {}
        """What its deltas add up to."""
        self.beside: JSON = {}
        """What stands beside them: log probabilities, a vendor's fields."""
        self.finish_reason: str | None = None


class ChoicesAccumulator(ABC):
    """A subclass says where a choice's content stands, streamed and assembled."""

    object_name: ClassVar[str]
    text_field: ClassVar[str]

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._choices: dict[int, Choice] = {}
        self._open = expected
        """Choices without a finish reason so far."""
        self._top: JSON = {}
        self._last_top: JSON = {}
        self._shortcut = ChunkTemplate()
        self._taken = 0
        self.started = False
        self.ended = False

    @property
    def complete(self) -> bool:
        return self.ended or self._open == 0

    def feed(self, payloads: Sequence[bytes]) -> None:
        index = 0
        while not self.ended and (index := self._shortcut.take(payloads, index)) < len(payloads):
            self._take(payloads[index].strip())
            index += 1

    def take_text(self) -> str:
        first = self._choices.get(0)
        pieces = first.content.get(self.text_field) if first else None
        if isinstance(pieces, ContentParts):
            pieces = pieces.said
        if not isinstance(pieces, TextChunks):
            return ""
        new = pieces[self._taken :]
        self._taken = len(pieces)
        return "".join(new)

    def body(self) -> JSON:
        if not self.complete:
            raise StreamTruncated(f"the stream ended with {self._open} of {self._expected} choices unfinished")
        if not self._choices:
            raise ProtocolError("the stream ended without a single choice")
        choices = [self._assembled(index, choice) for index, choice in sorted(self._choices.items())]
        fields = {**self._top, "object": self.object_name, "choices": choices}
        first = {name: fields.pop(name) for name in _FIRST_IN_BODY if name in fields}
        return first | fields

    @abstractmethod
    def _holder(self, choice: JSON) -> JSON:
        """The part of a streamed choice that holds its piece of content. Raises ProtocolError."""

    def _piece(self, holder: JSON) -> JSON:
        """What of it is content."""
        return holder

    @abstractmethod
    def _content(self, content: JSON) -> JSON:
        """The content of an assembled choice, as it stands there."""

    def _assembled(self, index: int, choice: Choice) -> JSON:
        content = self._content(settled(choice.content))
        return {"index": index, **content, **settled(choice.beside), "finish_reason": choice.finish_reason}

    def _take(self, payload: bytes) -> None:
        self._shortcut.forget()
        if payload == b"[DONE]":
            self.ended = True
        elif payload:
            chunk = parse(payload)
            self._take_choices(chunk, payload)
            self._take_top(chunk)

    def _take_choices(self, chunk: JSON, payload: bytes) -> None:
        if chunk.get("error") or chunk.get("object") == "error":
            raise error_from_event(chunk)
        choices = chunk.get("choices")
        if choices is None:
            return
        if not isinstance(choices, list):
            raise ProtocolError("choices is no list")
        for choice in choices:
            state, holder = self._take_choice(choice)
            if not self._shortcut.hopeless and len(choices) == 1 and _adds_only_content(choice):
                self._shortcut.learn(payload, chunk, holder, state.content)

    def _take_choice(self, choice: Any) -> tuple[Choice, JSON]:
        if not isinstance(choice, dict):
            raise ProtocolError("a choice is no object")
        if choice.get("error"):
            raise error_from_event(choice)
        index, holder = index_of(choice, 0), self._holder(choice)
        state = self._choices.get(index) or self._begin(index)
        piece = self._piece(holder)
        if not self.started:
            self.started = any(value for name, value in piece.items() if name != "role")
        merge(state.content, piece)
        if (reason := choice.get("finish_reason")) is not None:
            self._take_finish(state, reason)
        _take_beside(state.beside, choice)
        return state, holder

    def _begin(self, index: int) -> Choice:
        choice = self._choices[index] = Choice()
        self._open += len(self._choices) > self._expected
        return choice

    def _take_finish(self, choice: Choice, reason: Any) -> None:
        if not isinstance(reason, str):
            raise ProtocolError(f"a finish reason is {reason!r:.40}")
        if reason:
            self._open -= choice.finish_reason is None
            choice.finish_reason = reason

    def _take_top(self, chunk: JSON) -> None:
        chunk.pop("choices", None)
        if chunk == self._last_top:
            return
        self._last_top = chunk
        for name, value in chunk.items():
            if name in _NOT_CARRIED:
                continue
            known = self._top.get(name)
            if value is None and name != "usage":
                self._top.setdefault(name, None)
            elif value is not None and not (known and name in _FIRST_STANDS):
                self._top[name] = value


def _take_beside(into: JSON, choice: JSON) -> None:
    """Lists grow, and those in `logprobs` too; of anything else the last one stands."""
    for name, value in choice.items():
        if name in _NOT_BESIDE:
            continue
        known = into.get(name)
        if value is None:
            into.setdefault(name, None)
        elif name == "logprobs" and isinstance(value, dict):
            into[name] = known if isinstance(known, dict) else {}
            merge(into[name], value)
        elif isinstance(value, list) and isinstance(known, list):
            known.extend(value)
        else:
            into[name] = value


def _adds_only_content(choice: JSON) -> bool:
    """Whether the same choice again would change nothing beside its content."""
    return choice.get("logprobs") is None and list not in map(type, choice.values())


def choices_per_prompt(request: JSON) -> int:
    n = request.get("n")
    return n if type(n) is int and n > 0 else 1
