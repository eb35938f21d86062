"""A shortcut for chunks that differ from the one before in nothing but their piece of text, as nearly all do.

Parsing a whole chunk for a word of text is most of the work of reading a stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orjson import JSONDecodeError, loads

from processor.core.models import JSON
from processor.protocols.delta_merge import NOT_CONCATENATED
from processor.protocols.parts import TextChunks

_MAX_MISSES = 4
"""Templates in a row that fitted no further chunk, after which a stream is taken as it comes."""

_MANY = 8
"""So many chunks are cut by the template all at once, and compared with it afterwards."""
_LAST_ONES = 4
"""How many chunks at a stream's end may be otherwise: the finish reason, the usage, the end marker."""


class ChunkTemplate:
    """Remembers what stands before and after the text of the last chunk, and where that text went."""

    __slots__ = ("_head", "_misses", "_pieces", "_tail")

    def __init__(self) -> None:
        self._head = self._tail = b""
        self._pieces: TextChunks | None = None
        self._misses = 0

    def take(self, payloads: Sequence[bytes], start: int) -> int:
        """Take the texts of chunks that are otherwise as the last one was; return the index of the first other chunk.

        Exact: a string in the place of the string is what parsing the whole chunk would give.
        """
        if self._pieces is None:
            return start
        text, taken = _text(self._raw_texts(payloads, start))
        if taken:
            self._pieces.append(text)
            self._misses = 0
        return start + taken

    def _raw_texts(self, payloads: Sequence[bytes], start: int) -> list[bytes]:
        """What stands in the place of the text, in the chunks up to the first that is otherwise."""
        head, tail = self._head, self._tail
        skip, drop = len(head), -len(tail)
        if len(payloads) - start >= _MANY:
            chunks = payloads[start : self._likely_end(payloads)]
            raws = [payload[skip:drop] for payload in chunks]
            # A chunk too short for both ends makes the whole longer: what is equal, is so chunk by chunk. With half a
            # template more at each end, each side is copied but once. None at the end says nothing of those before.
            if raws and (tail + head).join((b"", *raws, b"")) == b"".join((tail, *chunks, head)):
                return raws
        raws = []
        for index in range(start, len(payloads)):
            payload = payloads[index]
            if not (payload.startswith(head) and payload.endswith(tail)):
                break
            raws.append(payload[skip:drop])
        return raws

    def _likely_end(self, payloads: Sequence[bytes]) -> int:
        """Behind the last chunk that is as the template, if that is one of the last ones."""
        for end in range(len(payloads), len(payloads) - _LAST_ONES, -1):
            if payloads[end - 1].startswith(self._head) and payloads[end - 1].endswith(self._tail):
                return end
        return 0

    def forget(self) -> None:
        self._pieces = None

    @property
    def hopeless(self) -> bool:
        return self._misses >= _MAX_MISSES

    def learn(self, payload: bytes, chunk: JSON, holder: JSON, content: JSON) -> None:
        """Look for the template of a parsed ``chunk``. Its text stands in its part ``holder``, and is in ``content``.

        There may be none: more than a text is said, or the text is escaped, or its place is not plain to see.
        """
        field = _only_text(holder)
        pieces = content.get(field) if field else None
        if field is None or not isinstance(pieces, TextChunks):
            return
        self._misses += 1
        raw, name = f'"{holder[field]}"'.encode(), f'"{field}"'.encode()
        start = payload.find(raw, payload.find(name) + len(name))
        end = start + len(raw)
        is_field = _is_plain(payload, name) or _is_field(payload[: end - 1], payload[end - 1 :], chunk, holder, field)
        if start > 0 and is_field:
            self._head, self._tail, self._pieces = payload[:start], payload[end:], pieces


def _text(raws: list[bytes]) -> tuple[str, int]:
    """What those up to the first that is no JSON string say together, and how many they are.

    They are decoded all at once, as one list. No JSON string holds a line feed: halves of two broken ones never make a
    whole one, and so there are fewer values than raws in no list that can be decoded.
    """
    try:
        values: list[str] = loads(b"[%b]" % b",\n".join(raws))
        if len(values) == len(raws):
            return "".join(values), len(values)
    except (JSONDecodeError, TypeError):  # TypeError: one is no string
        pass
    texts = list(_one_by_one(raws))
    return "".join(texts), len(texts)


def _one_by_one(raws: list[bytes]) -> Iterator[str]:
    for raw in raws:
        try:
            text = loads(raw)
        except JSONDecodeError:
            return
        if type(text) is not str:
            return
        yield text


def _only_text(holder: JSON) -> str | None:
    """The field whose text is all that is said here."""
    text = None
    for name, value in holder.items():
        if value and name not in NOT_CONCATENATED:
            if text is not None or not isinstance(value, str):
                return None
            text = name
    return text


def _is_plain(payload: bytes, name: bytes) -> bool:
    """Nothing is escaped, and one string alone is the field's name: what follows it is the field."""
    return b"\\" not in payload and payload.count(name) == 1


def _is_field(before: bytes, after: bytes, chunk: JSON, holder: JSON, field: str) -> bool:
    """One letter more at this place is one letter more in this field, and changes nothing else.

    So the place is inside the field's string, and the quotes around it are the string's own.
    """
    text = holder[field]
    holder[field] = text + "?"
    try:
        return bool(loads(b"%b?%b" % (before, after)) == chunk)
    except JSONDecodeError:
        return False
    finally:
        holder[field] = text
