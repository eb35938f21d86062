"""Decodes server-sent events: the bytes of a stream to the data of its events.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
Only `data` fields are used: all known APIs repeat the type of an event inside its data. Events named `error` and the
field `error` are marked, as not all servers frame errors properly. The decoder works on bytes, so that a UTF-8
character that is split between two reads is complete once its line is.
"""

from __future__ import annotations

from processor.protocols.lenient_json import loads_lenient

ERROR_MARK = b"error:"
"""Stands before the data of an event that is named `error`, or of a field of that name (llama.cpp)."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseDecoder:
    """Takes reads of any size. The work per byte is bounded, also for very small reads."""

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data_lines",
        "_is_error",
        "_is_unframed",
        "_partial_line",
        "unfinished_bytes",
    )

    def __init__(self) -> None:
        self._partial_line: list[bytes | bytearray] = []
        """Reads since the last line end."""
        self.unfinished_bytes = 0
        """The size of the event that is not complete yet, about."""
        self._data_lines: list[bytes] = []
        """The data lines of an unfinished event."""
        self._is_error = False
        """The unfinished event is named `error`."""
        self._is_unframed = False
        """It began with a brace: a JSON object that is not framed as an event, as some errors are sent."""
        self._after_cr = False
        self._at_start = True

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that these bytes complete. Several data lines are joined by line feeds."""
        if self._after_cr or b"\r" in data:
            data = self._normalize_line_ends(data)
        if b"\n" not in data:
            self._keep_piece(data)
            self.unfinished_bytes += len(data)
            return []
        text = self._with_partial_line(data) if self._partial_line else data
        if self._at_start:
            self._at_start = False
            text = text.removeprefix(_BYTE_ORDER_MARK)
        end = text.rfind(b"\n\n")
        if end > 0 and not self._data_lines and not self._is_error and text.startswith(b"data: "):
            events = text[6:end].split(b"\n\ndata: ")
            # There are no line ends but those between the events: each event is a single data line.
            if b"\n" not in b"".join(events):
                self.unfinished_bytes = len(text) - end - 2
                if self.unfinished_bytes:
                    self._keep_unfinished(text[end + 2 :])
                return events
        return self._decode_any(text)

    def finish(self) -> list[bytes]:
        """At the end of the stream, return the last event where only its line ends are missing.

        An unfinished line is dropped where it was cut off: where it is neither the end marker nor a JSON object.
        """
        partial_line, self._partial_line = b"".join(self._partial_line).removeprefix(_BYTE_ORDER_MARK), []
        if _is_whole(partial_line.partition(b":")[2].strip()) or _is_whole(partial_line.strip()):
            self._take_lines(partial_line)
        return [event] if (event := self._take_event()) else []

    def _decode_any(self, text: bytes) -> list[bytes]:
        """Also decodes comments, other fields, and events of several lines or in several reads."""
        # Where the line before belongs to the same event, its line end is put back: a blank line is then always two
        # line ends in a row.
        *blocks, unfinished = (b"\n" + text if self._data_lines or self._is_error else text).split(b"\n\n")
        events = []
        for block in blocks:
            self._take_lines(block)
            if self._data_lines:
                events.append(self._take_event())
            self._is_error = self._is_unframed = False
        self.unfinished_bytes = len(unfinished) + (0 if blocks else self.unfinished_bytes)
        self._keep_unfinished(unfinished)
        return events

    def _take_event(self) -> bytes:
        """The data of the event that has ended."""
        event = b"\n".join(self._data_lines)
        self._data_lines.clear()
        return ERROR_MARK + event if self._is_error and event else event

    def _keep_unfinished(self, text: bytes) -> None:
        """Keep what is behind the last complete event."""
        lines, line_end, partial_line = text.rpartition(b"\n")
        if line_end:
            self._take_lines(lines)
        if partial_line:
            self._partial_line.append(partial_line)

    def _keep_piece(self, data: bytes) -> None:
        """Keep a piece from within a line. Many pieces would leave gaps in the memory once they are joined."""
        if self._partial_line and isinstance(last := self._partial_line[-1], bytearray):
            last += data
        else:
            self._partial_line.append(bytearray(data))

    def _take_lines(self, lines: bytes) -> None:
        for line in lines.split(b"\n"):
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data_lines.append(value.removeprefix(b" "))
            elif name == b"event":
                self._is_error = value.strip() == b"error"
            elif name == b"error":
                self._data_lines.append(value)
                self._is_error = True
            elif self._is_unframed or line[:1] == b"{":
                self._data_lines.append(line)
                self._is_unframed = True

    def _with_partial_line(self, data: bytes) -> bytes:
        text = b"".join((*self._partial_line, data))
        self._partial_line.clear()
        return text

    def _normalize_line_ends(self, data: bytes) -> bytes:
        """CRLF, LF and CR all end a line; a CRLF may be split between two reads."""
        if not data:
            return data
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _is_whole(value: bytes) -> bool:
    if value == b"[DONE]":
        return True
    try:
        return value.endswith(b"}") and isinstance(loads_lenient(value, set()), dict)
    except ValueError:
        return False
