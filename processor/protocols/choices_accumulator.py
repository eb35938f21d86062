"""Assembles streams of `choices`: what the accumulators of chat completions and completions have in common.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from processor.core.errors import ProtocolError, ReplyTooLarge, StreamTruncated
from processor.core.lazy_pattern import LazyPattern
from processor.core.models import JSON
from processor.protocols.chunk_fast_path import ChunkTemplate
from processor.protocols.delta_merge import ContentParts, TextChunks, finalize, merge, read_index
from processor.protocols.error_mapping import error_from_event
from processor.protocols.finish_reasons import failed_reply, given_reason, is_failure
from processor.protocols.inband_errors import error_in_line, raise_error_in
from processor.protocols.json_size import MemoryBound
from processor.protocols.lenient_json import join_halves, joined_text
from processor.protocols.reply_json import as_object, parse_plain_object, parse_value
from processor.protocols.reported_usage import lift_groq_usage
from processor.protocols.sse import ERROR_MARK

END_MARKER = b"[DONE]"

_KEEP_ALIVE = LazyPattern(
    rb"(?i)[\[(<:]*\s*(?:keep[-_ ]?alive|ping|pong|heart[-_ ]?beat|alive|connected|waiting|queued|processing|noop)\W*"
)
"""Data of events that some servers send while the model is busy, in place of a comment."""
_DROPPED = frozenset({"error", "object", "obfuscation"})
"""Top-level fields of a chunk that have no place in the body."""
_KEEP_FIRST = frozenset({"id", "created", "model"})
"""Some servers send a new value in every chunk."""
_IN_ORDER: JSON = dict.fromkeys(("id", "object", "created", "model", "choices"))
"""The fields with which a body begins, in their order."""
_NOT_EXTRA = frozenset({"index", "delta", "text", "message", "finish_reason", "error"})
_USUAL = _NOT_EXTRA | {"logprobs"}
"""The fields of nearly all choices."""


class Choice:
    """One unfinished choice."""

    __slots__ = ("content", "extra", "finish_reason", "message")

    def __init__(self) -> None:
        self.content: JSON = {}
        """Its merged deltas."""
        self.extra: JSON = {}
        """Fields beside the delta: log probabilities, a vendor's own fields."""
        self.finish_reason: str | None = None
        self.message: JSON | None = None
        """A whole message that came beside the deltas, or in their place."""


class ChoicesAccumulator(ABC):
    """A subclass knows where the content of a choice is, in a chunk and in the assembled body.

    ``expected``: how many choices the request asks for.
    """

    object_name: ClassVar[str]
    text_field: ClassVar[str]

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._choices: dict[int, Choice] = {}
        self._unfinished = expected
        """Choices without a finish reason so far."""
        self._top_level: JSON = {}
        self._last_top_level: JSON = {}
        self._template = ChunkTemplate()
        self._memory: MemoryBound | None = None
        self._popped_chunks = 0
        self._failure_reason: str | None = None
        self.altered: set[str] = set()
        self.has_content = False
        self.saw_end_marker = False

    @property
    def is_complete(self) -> bool:
        return self.saw_end_marker or self._unfinished == 0

    def feed(self, events: Sequence[bytes]) -> None:
        index, count, template = 0, len(events), self._template
        while not self.saw_end_marker:
            if template.is_ready:
                index = template.match_run(events, index)
            if index == count:
                return
            self._feed_event(events[index].strip())
            index += 1

    def pop_text(self) -> str:
        first = self._choices.get(0)
        chunks = first.content.get(self.text_field) if first else None
        if isinstance(chunks, ContentParts):
            chunks = chunks.text
        if not isinstance(chunks, TextChunks):
            return ""
        new = chunks[self._popped_chunks :]
        self._popped_chunks = len(chunks)
        return joined_text("".join(new), set()) if "surrogate" in self.altered else "".join(new)

    def result(self) -> JSON:
        if self._failure_reason is not None:
            raise failed_reply(self._failure_reason)
        if not self.is_complete:
            unfinished = f"{self._unfinished} of {self._expected} choices unfinished"
            raise StreamTruncated(f"the stream ended with {unfinished}", ended_by_server=True)
        if not self._choices:
            raise ProtocolError("the stream ended without a single choice")
        if not self.has_content and self._unfinished >= len(self._choices):
            raise ProtocolError("the stream ended with neither content nor a finish reason")
        choices = [self._assemble(index, choice) for index, choice in sorted(self._choices.items())]
        fields = {**self._top_level, "object": self.object_name, "choices": choices}
        lift_groq_usage(fields)
        body = {**_IN_ORDER, **fields}
        if len(body) > len(fields):
            for name in _IN_ORDER.keys() - fields.keys():
                del body[name]
        return join_halves(body, self.altered) if "surrogate" in self.altered else body

    @abstractmethod
    def _delta_of(self, choice: JSON) -> JSON:
        """The part of a streamed choice that holds its piece of content. Raises ProtocolError."""

    def _content_of(self, delta: JSON) -> JSON:
        """The fields of the delta that are content."""
        return delta

    @abstractmethod
    def _finalize(self, content: JSON) -> JSON:
        """The fields of an assembled choice that hold its content."""

    def _assemble(self, index: int, choice: Choice) -> JSON:
        merged = finalize(choice.content)
        if choice.message is not None and not _has_content(merged):
            merged = choice.message
        content = self._finalize(merged)
        return {"index": index, **content, **finalize(choice.extra), "finish_reason": choice.finish_reason}

    def _feed_event(self, event: bytes) -> None:
        self._template.reset()
        if event == END_MARKER:
            self.saw_end_marker = True
        elif event.startswith(ERROR_MARK):
            raise error_in_line(event.removeprefix(ERROR_MARK))
        elif event:
            self._feed_json(event)

    def _feed_json(self, event: bytes) -> None:
        if (plain := parse_plain_object(event)) is not None:  # nearly all events
            raise_error_in(plain)
            self._feed_chunk(plain, event)
            return
        altered: set[str] = set()
        try:
            self._memory = self._memory or MemoryBound()
            value = parse_value(event, altered=altered, memory=self._memory)
        except ProtocolError as error:
            lines = event.split(b"\n")
            if len(lines) == 1 or isinstance(error, ReplyTooLarge):
                if _KEEP_ALIVE.fullmatch(event):
                    return
                raise
            self.feed(lines)  # events that are separated by single line ends
            return
        if altered:
            self.altered |= altered
        raise_error_in(value, is_altered=bool(altered))
        if value is not None:
            self._feed_chunk(as_object(value, event), b"" if altered else event)

    def _feed_chunk(self, chunk: JSON, event: bytes) -> None:
        """Merge a chunk. ``event``: its bytes, where they can serve as a template."""
        choices = chunk.get("choices")
        if choices is None:
            if "choices" not in chunk and "usage" not in chunk:
                return  # a ping, whose fields have no place in the body
        elif not isinstance(choices, list):
            raise ProtocolError("choices is not a list")
        else:
            for streamed in choices:
                choice, delta = self._merge_choice(streamed)
                if delta and event and len(choices) == 1 and _adds_only_content(streamed):
                    self._template.learn(event, chunk, delta, choice.content)
        self._merge_top_level(chunk)

    def _merge_choice(self, streamed: Any) -> tuple[Choice, JSON]:
        if not isinstance(streamed, dict):
            raise ProtocolError("a choice is not an object")
        if streamed.get("error"):
            raise error_from_event(streamed)
        index, delta = streamed.get("index"), self._delta_of(streamed)
        if type(index) is not int or (choice := self._choices.get(index)) is None:
            index = read_index(streamed, 0)
            choice = self._choices.get(index) or self._add_choice(index)
        content = self._content_of(delta)
        if not self.has_content:
            self.has_content = _has_content(content)
        if content:
            merge(choice.content, content)
        reason = streamed.get("finish_reason")
        if reason is not None and (reason := given_reason(reason)) is not None:
            self._set_finish_reason(choice, reason)
        if streamed.get("logprobs") is None and _USUAL.issuperset(streamed):  # nearly all
            if "logprobs" in streamed:
                choice.extra.setdefault("logprobs", None)
        else:
            _merge_extra(choice.extra, streamed)
        message = streamed.get("message")
        if message is not None and isinstance(message, dict) and _has_content(message):
            choice.message, self.has_content = message, True
        return choice, delta

    def _add_choice(self, index: int) -> Choice:
        choice = self._choices[index] = Choice()
        self._unfinished += len(self._choices) > self._expected
        return choice

    def _set_finish_reason(self, choice: Choice, reason: str) -> None:
        if reason != "stop" and is_failure(reason):
            # Not raised yet: an event with the server's own words may follow.
            self._failure_reason = reason
            return
        self._unfinished -= choice.finish_reason is None
        choice.finish_reason = reason

    def _merge_top_level(self, chunk: JSON) -> None:
        chunk.pop("choices", None)
        fields, usage = self._top_level, chunk.pop("usage", None)
        if usage is not None and (usage or not fields.get("usage")):
            fields["usage"] = usage
        # Nearly all chunks of a stream are equal, but for what is taken out above.
        if chunk == self._last_top_level:
            return
        self._last_top_level = chunk
        if not fields:  # the first chunk
            self._top_level = {name: value for name, value in chunk.items() if name not in _DROPPED}
            return
        for name, value in chunk.items():
            if name in _DROPPED:
                continue
            known = fields.get(name)
            if value is None:
                fields.setdefault(name, None)
            elif not (known and (name in _KEEP_FIRST or not value)):
                fields[name] = value


def _has_content(message: JSON) -> bool:
    for name, value in message.items():  # noqa: SIM110 (a generator costs more, for each chunk until the first token)
        if value and name != "role":
            return True
    return False


def _merge_extra(into: JSON, choice: JSON) -> None:
    """Concatenates lists, also those inside `logprobs`; any other value replaces the old one."""
    for name, value in choice.items():
        if name in _NOT_EXTRA:
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
    """Whether merging the same choice once more would change nothing but its content."""
    return choice.get("logprobs") is None and list not in map(type, choice.values())
