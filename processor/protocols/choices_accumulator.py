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
from processor.protocols.reply_json import as_object, parse_plain_objects, parse_value
from processor.protocols.reported_usage import lift_groq_usage
from processor.protocols.sse import ERROR_MARK
from processor.protocols.unfinished_choice import Choice, has_content_in

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
_DECODED_TOGETHER = 2
"""Events that match no template: a stream begins with a role and a text, and ends with a reason and the usage."""


class ChoicesAccumulator(ABC):
    """A subclass knows where the content of a choice is, in a chunk and in the assembled body.

    ``expected``: how many choices the request asks for.
    """

    __slots__ = (
        "_choices",
        "_expected",
        "_failure_reason",
        "_last_choice",
        "_last_delta",
        "_last_top_level",
        "_memory",
        "_popped_chunks",
        "_template",
        "_top_level",
        "_unfinished",
        "altered",
        "has_content",
        "saw_end_marker",
    )

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
        self._last_choice: Choice | None = None
        """The one of the last chunk."""
        self._last_delta: JSON = {}
        """What was merged into it."""
        self._popped_chunks = 0
        self._failure_reason: str | None = None
        self.altered: set[str] = set()
        self.has_content = False
        self.saw_end_marker = False

    @property
    def is_complete(self) -> bool:
        return self.saw_end_marker or self._unfinished == 0

    def feed(self, events: Sequence[bytes]) -> None:
        is_last = bool(events) and events[-1] == END_MARKER
        if is_last:
            events = events[:-1]
        index = 0
        while index < len(events) and not self.saw_end_marker:
            index = self._template.match_run(events, index)
            if group := events[index : index + _DECODED_TOGETHER]:
                self._feed_group(group)
                index += len(group)
        if is_last:
            self.saw_end_marker = True

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
    def _pop_delta(self, choice: JSON) -> JSON:
        """Take the piece of content out of a streamed choice. Raises ProtocolError."""

    @abstractmethod
    def _finalize(self, content: JSON) -> JSON:
        """The fields of an assembled choice that hold its content."""

    def _assemble(self, index: int, choice: Choice) -> JSON:
        merged = finalize(choice.content)
        if choice.message is not None and not has_content_in(merged):
            merged = choice.message
        content = self._finalize(merged)
        return {"index": index, **content, **finalize(choice.extra), "finish_reason": choice.finish_reason}

    def _feed_group(self, events: Sequence[bytes]) -> None:
        """Take events that match no template. Nearly all are plain, so that they are decoded together."""
        self._template.reset()
        chunks = parse_plain_objects(events)
        if chunks is not None:
            for chunk in chunks:
                raise_error_in(chunk)
                choices = self._feed_chunk(chunk)
            self._offer_template(events[-1], choices)
        elif len(events) == 1:
            self._feed_event(events[0].strip())
        else:
            for event in events:
                if not self.saw_end_marker:
                    self._feed_group((event,))

    def _feed_event(self, event: bytes) -> None:
        """Take an event that is not plain."""
        if event == END_MARKER:
            self.saw_end_marker = True
        elif event.startswith(ERROR_MARK):
            raise error_in_line(event.removeprefix(ERROR_MARK))
        elif event:
            self._feed_json(event)

    def _feed_json(self, event: bytes) -> None:
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
        self.altered |= altered
        raise_error_in(value, is_altered=bool(altered))
        if value is not None:
            choices = self._feed_chunk(as_object(value, event))
            if not altered:
                self._offer_template(event, choices)

    def _feed_chunk(self, chunk: JSON) -> Any:
        """Merge a chunk, which is taken apart. Returns its choices."""
        if "choices" not in chunk and "usage" not in chunk:
            return None  # a ping, whose fields have no place in the body
        usage = chunk.pop("usage", None)
        choices: Any = chunk.pop("choices", None)
        if choices is not None:
            if not isinstance(choices, list):
                raise ProtocolError("choices is not a list")
            for streamed in choices:
                self._merge_choice(streamed)
        if usage is not None and (usage or not self._top_level.get("usage")):
            self._top_level["usage"] = usage
        if chunk != self._last_top_level:  # nearly all chunks of a stream are equal, but for what is taken out above
            self._merge_top_level(chunk)
            self._last_top_level = chunk
        return choices

    def _offer_template(self, event: bytes, choices: Any) -> None:
        """``choices``: those of the event, which has been merged."""
        choice = self._last_choice
        if choices and len(choices) == 1 and self._last_delta and choice and choice.other_fields is not None:
            self._template.offer(event, self._last_delta, choice.content)

    def _merge_choice(self, streamed: Any) -> None:
        if not isinstance(streamed, dict):
            raise ProtocolError("a choice is not an object")
        if streamed.get("error"):
            raise error_from_event(streamed)
        self._last_delta = delta = self._pop_delta(streamed)
        reason, choice = streamed.pop("finish_reason", None), self._last_choice
        if choice is None or streamed != choice.other_fields:  # what is left is mostly the same as in the last chunk
            choice = self._last_choice = self._choice_of(streamed)
        if delta:
            if not self.has_content:
                self.has_content = has_content_in(delta)
            merge(choice.content, delta)
        if reason is not None and (reason := given_reason(reason)) is not None:
            self._set_finish_reason(choice, reason)

    def _choice_of(self, fields: JSON) -> Choice:
        """The choice with this index, into which the other fields are merged: what stands in a chunk beside the delta
        and the finish reason."""
        index = read_index(fields, 0)
        choice = self._choices.get(index) or self._add_choice(index)
        if fields != choice.other_fields:
            choice.merge_fields(fields)
            self.has_content = self.has_content or choice.message is not None
        return choice

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
        fields = self._top_level
        if not fields:  # the first chunk
            fields.update(chunk)
            for name in _DROPPED:
                fields.pop(name, None)
            return
        for name, value in chunk.items():
            if name in _DROPPED:
                continue
            known = fields.get(name)
            if value is None:
                fields.setdefault(name, None)
            elif not (known and (name in _KEEP_FIRST or not value)):
                fields[name] = value
