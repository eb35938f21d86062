"""Decodes server-sent events: the bytes of a stream to the data of its events.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
Only `data` fields are used: all known APIs repeat the type of an event inside its data. The decoder works on bytes, so
that a UTF-8 character that is split between two reads is complete once its line is.
"""

from __future__ import annotations

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseDecoder:
    """Takes reads of any size. The work per byte is bounded, also for very small reads."""

    __slots__ = ("_after_cr", "_at_start", "_data_lines", "_partial_line")

    def __init__(self) -> None:
        self._partial_line: list[bytes] = []
        """Reads since the last line end."""
        self._data_lines: list[bytes] = []
        """The data lines of an unfinished event."""
        self._after_cr = False
        self._at_start = True

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that these bytes complete. Several data lines are joined by line feeds."""
        if self._after_cr or b"\r" in data:
            data = self._normalize_line_ends(data)
        if b"\n" not in data:
            self._partial_line.append(data)
            return []
        text = self._with_partial_line(data) if self._partial_line or self._at_start else data
        end = text.rfind(b"\n\n")
        if end > 0 and not self._data_lines and text.startswith(b"data: "):
            events = text[6:end].split(b"\n\ndata: ")
            # There are no line ends but those between the events: each event is a single data line.
            if b"\n" not in b"".join(events):
                if end + 2 < len(text):
                    self._keep_unfinished(text[end + 2 :])
                return events
        return self._decode_any(text)

    def finish(self) -> list[bytes]:
        """At the end of the stream, return the last event where only its blank line is missing.

        An unfinished line is dropped: it was cut off.
        """
        event, self._data_lines = b"\n".join(self._data_lines), []
        return [event] if event else []

    def _decode_any(self, text: bytes) -> list[bytes]:
        """Also decodes comments, other fields, and events of several lines or in several reads."""
        # Where the line before belongs to the same event, its line end is put back: a blank line is then always two
        # line ends in a row.
        *blocks, unfinished = (b"\n" + text if self._data_lines else text).split(b"\n\n")
        events = []
        for block in blocks:
            self._take_lines(block)
            if self._data_lines:
                events.append(b"\n".join(self._data_lines))
                self._data_lines.clear()
        self._keep_unfinished(unfinished)
        return events

    def _keep_unfinished(self, text: bytes) -> None:
        """Keep what is behind the last complete event."""
        lines, line_end, partial_line = text.rpartition(b"\n")
        if line_end:
            self._take_lines(lines)
        if partial_line:
            self._partial_line.append(partial_line)

    def _take_lines(self, lines: bytes) -> None:
        for line in lines.split(b"\n"):
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data_lines.append(value.removeprefix(b" "))

    def _with_partial_line(self, data: bytes) -> bytes:
        text = b"".join((*self._partial_line, data))
        self._partial_line.clear()
        if self._at_start:
            self._at_start = False
            text = text.removeprefix(_BYTE_ORDER_MARK)
        return text

    def _normalize_line_ends(self, data: bytes) -> bytes:
        """CRLF, LF and CR all end a line; a CRLF may be split between two reads."""
        if not data:
            return data
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
