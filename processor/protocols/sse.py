"""Bytes of a server-sent event stream → the payloads of its events.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
Every protocol spoken here repeats an event's type inside its data, so that only `data` fields matter. Works on
bytes: a UTF-8 character cut by a read is whole again once its line is.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class SseDecoder:
    """Feed it reads of any size; each byte is looked at a bounded number of times, however small the reads."""

    __slots__ = ("_after_cr", "_at_start", "_data", "_rest")

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        """Reads since the last line end: one line that is not whole yet."""
        self._data: list[bytes] = []
        """The data lines of an event that is not whole yet."""
        self._after_cr = False
        self._at_start = True

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that these bytes complete. Several data lines are joined by LF."""
        if self._after_cr or b"\r" in data:
            data = self._with_lf_only(data)
        if b"\n" not in data:
            self._rest.append(data)
            return []
        text = self._whole(data) if self._rest or self._at_start else data
        end = text.rfind(b"\n\n")
        if end > 0 and not self._data and text.startswith(b"data: "):
            payloads = text[6:end].split(b"\n\ndata: ")
            # No line end but those between the events: each event is one plain data line.
            if b"\n" not in b"".join(payloads):
                if end + 2 < len(text):
                    self._keep(text[end + 2 :])
                return payloads
        return self._any_events(text)

    def finish(self) -> list[bytes]:
        """At the end of the stream: what a server said without the blank line that should follow.

        A last line that is not whole is dropped: it was cut.
        """
        payload, self._data = b"\n".join(self._data), []
        return [payload] if payload else []

    def _any_events(self, text: bytes) -> list[bytes]:
        """The same for comments, other fields, events of several lines or in several reads."""
        # The line before these was an event's: with its end put back, a blank line is two line ends here too.
        *events, rest = (b"\n" + text if self._data else text).split(b"\n\n")
        payloads = []
        for event in events:
            self._take_lines(event)
            if self._data:
                payloads.append(b"\n".join(self._data))
                self._data.clear()
        self._keep(rest)
        return payloads

    def _keep(self, rest: bytes) -> None:
        """Hold what is left after the last whole event."""
        lines, line_end, rest = rest.rpartition(b"\n")
        if line_end:
            self._take_lines(lines)
        if rest:
            self._rest.append(rest)

    def _take_lines(self, lines: bytes) -> None:
        for line in lines.split(b"\n"):
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))

    def _whole(self, data: bytes) -> bytes:
        text = b"".join((*self._rest, data))
        self._rest.clear()
        if self._at_start:
            self._at_start = False
            text = text.removeprefix(_BOM)
        return text

    def _with_lf_only(self, data: bytes) -> bytes:
        """CRLF, LF and CR are the same line end; a CRLF may be cut in two by a read."""
        if not data:
            return data
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
