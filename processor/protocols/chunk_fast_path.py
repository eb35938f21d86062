"""Fast path for chunks that differ from the previous one only in their text, as nearly all chunks do.

Parsing a whole chunk for a word of text is most of the work of reading a stream. The fast path keeps the bytes before
and after the text of the last parsed chunk as a template, and takes only the text of the chunks that match it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orjson import JSONDecodeError, loads

from processor.core.models import JSON
from processor.protocols.delta_merge import NOT_CONCATENATED, TextChunks

_MAX_MISSES = 4
"""The fast path is disabled for a stream after so many templates in a row that matched no further chunk."""

_MIN_BATCH = 8
"""From so many chunks on, the template is compared with all of them in one step."""
_MAX_OTHER_AT_END = 4
"""How many chunks at a stream's end may differ: the finish reason, the usage, the end marker."""


class ChunkTemplate:
    """The bytes before and after the text of the last parsed chunk, and the list that its text was appended to.

    The template is made when further chunks have come, as the last chunks of a stream need none.
    """

    __slots__ = ("_chunks", "_head", "_misses", "_offered", "_tail")

    def __init__(self) -> None:
        self._head = self._tail = b""
        self._chunks: TextChunks | None = None
        self._offered: tuple[bytes, JSON, JSON] | None = None
        self._misses = 0

    def match_run(self, events: Sequence[bytes], start: int) -> int:
        """Append the texts of the events from ``start`` that match; return the index of the first that does not.

        Exact: a match is a JSON string in the place of the text, so that parsing the whole event gives the same.
        """
        if self._offered is not None:
            self._learn(*self._offered)
        if self._chunks is None:
            return start
        text, matched = _join(self._raw_texts(events, start))
        if matched:
            self._chunks.append(text)
            self._misses = 0
        return start + matched

    @property
    def is_disabled(self) -> bool:
        return self._misses >= _MAX_MISSES

    def reset(self) -> None:
        self._chunks = self._offered = None

    def offer(self, event: bytes, delta: JSON, content: JSON) -> None:
        """Let the event that was parsed last become the template. ``delta``: what it has merged into ``content``."""
        if not self.is_disabled:
            self._offered = event, delta, content

    def _raw_texts(self, events: Sequence[bytes], start: int) -> list[bytes]:
        """The bytes in the place of the text, up to the first event that does not match."""
        head, tail = self._head, self._tail
        skip, drop = len(head), -len(tail)
        if len(events) - start >= _MIN_BATCH:
            batch = events[start : self._likely_end(events)]
            raw_texts = [event[skip:drop] for event in batch]
            # Compare all at once: the raw texts between the template's ends must give the same bytes as the events.
            # With head `{"t":"`, tail `"}` and the events `{"t":"Hi"}` and `{"t":"you"}`, both sides are
            # `"}{"t":"Hi"}{"t":"you"}{"t":"`.
            # An event shorter than both ends makes the left side longer, so equal sides are equal event by event.
            # The extra tail in front and head behind let each side be built with a single copy. An empty list means
            # that no event near the end matches, which says nothing about the events before.
            if raw_texts and (tail + head).join((b"", *raw_texts, b"")) == b"".join((tail, *batch, head)):
                return raw_texts
        raw_texts = []
        for event in events[start:]:
            if not (event.startswith(head) and event.endswith(tail)):
                break
            raw_texts.append(event[skip:drop])
        return raw_texts

    def _likely_end(self, events: Sequence[bytes]) -> int:
        """The index behind the last matching event, where that is among the last ones; else 0."""
        for end in range(len(events), len(events) - _MAX_OTHER_AT_END, -1):
            if events[end - 1].startswith(self._head) and events[end - 1].endswith(self._tail):
                return end
        return 0

    def _learn(self, event: bytes, delta: JSON, content: JSON) -> None:
        """No template is made where the delta holds more than one text, the text is escaped, or its place in the event
        is ambiguous."""
        self._offered = None
        field = _only_text_field(delta)
        chunks = content.get(field) if field else None
        if field is None or not isinstance(chunks, TextChunks):
            return
        self._misses += 1
        text, name = f'"{delta[field]}"'.encode(), f'"{field}"'.encode()
        after_name = event.find(name) + len(name)
        start = event.find(text, after_name)
        end = start + len(text)
        # Where nothing is escaped and the field's name occurs once, what follows it is the field.
        is_unambiguous = b"\\" not in event and event.find(name, after_name) < 0
        if start > 0 and (is_unambiguous or _is_text_at(end - 1, event, field)):
            self._head, self._tail, self._chunks = event[:start], event[end:], chunks


def _join(raw_texts: list[bytes]) -> tuple[str, int]:
    """Decode the raw texts up to the first that is not a JSON string: the joined text, and how many there are.

    All are decoded at once, as one list, separated by line feeds. A JSON string cannot contain a line feed, so that
    two broken strings never make a valid one, and a decoded list has as many values as there are raw texts.
    """
    try:
        values: list[str] = loads(b"[%b]" % b",\n".join(raw_texts))
        if len(values) == len(raw_texts):
            return "".join(values), len(values)
    except (JSONDecodeError, TypeError):  # TypeError: one value is not a string
        pass
    texts = list(_decode_strings(raw_texts))
    return "".join(texts), len(texts)


def _decode_strings(raw_texts: list[bytes]) -> Iterator[str]:
    for raw_text in raw_texts:
        try:
            text = loads(raw_text)
        except JSONDecodeError:
            return
        if type(text) is not str:
            return
        yield text


def _only_text_field(delta: JSON) -> str | None:
    """The field that holds the delta's text, where it holds nothing else that is content."""
    field = None
    for name, value in delta.items():
        if value and name not in NOT_CONCATENATED:
            if field is not None or not isinstance(value, str):
                return None
            field = name
    return field


def _is_text_at(place: int, event: bytes, field: str) -> bool:
    """Whether a letter inserted at this place changes the field by that letter, and nothing else.

    If so, the place is inside the field's string, and the quotes around it are those of the string.
    """
    chunk = loads(event)
    choice = chunk["choices"][0]
    delta = choice.get("delta") or choice
    delta[field] = f"{delta.get(field)}?"
    try:
        return bool(loads(b"%b?%b" % (event[:place], event[place:])) == chunk)
    except JSONDecodeError:
        return False
