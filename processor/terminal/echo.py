"""Replies as they stream, one job at a time: for trying a prompt."""

from __future__ import annotations

from typing import TextIO

from processor.core.events import Delta, RequestEvent, Sent
from processor.core.models import Job, Result
from processor.core.text import one_line
from processor.protocols import Protocol, protocol_for
from processor.terminal import console
from processor.terminal.formatting import MAX_LINE_CHARS, duration, listed, printable
from processor.terminal.label_table import COLOURS, Style


class Echo:
    """``begin`` a job, ``tell`` its signals, ``end`` it with its result; then the next."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = console.stderr(stream)
        self._protocol: Protocol
        """That of the present job."""
        self._last = ""
        """The text written since the last line of our own."""

    def begin(self, job: Job) -> None:
        self._protocol = protocol_for(job.path)
        self._line(f"── {one_line(job.custom_id, MAX_LINE_CHARS)}")

    def tell(self, signal: RequestEvent) -> None:
        if isinstance(signal, Delta):
            self._write(signal.text)
        elif isinstance(signal, Sent) and self._last:
            self._line("broke off, sent again", "warning")

    def end(self, result: Result) -> None:
        if result.failure is not None:
            self._line(f"failed: {result.failure.code}: {one_line(result.failure.message, MAX_LINE_CHARS)}", "bad")
        else:
            if not self._last and result.reply is not None:
                self._write(self._protocol.text(result.reply.body))
            self._line(_ending(result))
        self._stream.write("\n")
        self._stream.flush()

    def _write(self, text: str) -> None:
        self._last = text or self._last
        self._stream.write(printable(text))
        self._stream.flush()

    def _line(self, text: str, style: Style = "") -> None:
        """A line of our own, told apart from the reply by its colour."""
        if self._last:
            self._stream.write("" if self._last.endswith("\n") else "\n")
            self._last = ""
        if console.is_terminal(self._stream):
            from rich.text import Text

            console.rich_console(self._stream).print(Text(text, style=COLOURS[style] or "dim"))
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


def _ending(result: Result) -> str:
    parts = []
    if result.timing is not None:
        if result.timing.first_token_s is not None:
            parts.append(f"{duration(result.timing.first_token_s)} to the first token")
        parts.append(f"{duration(result.timing.total_s)} in all")
    if result.usage is not None:
        parts.append(f"{result.usage.completion_tokens:,} tokens")
    return f"── {listed(parts)}"
