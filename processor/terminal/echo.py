"""Prints replies as they stream, one job at a time, for ``--echo``."""

from __future__ import annotations

from typing import TextIO

from processor.core.events import Delta, RequestEvent, Sent
from processor.core.models import Job, Result
from processor.core.secrets import StreamMask
from processor.core.text import one_line
from processor.protocols import Protocol, protocol_for
from processor.terminal import console
from processor.terminal.formatting import MAX_LINE_CHARS, duration, joined, printable
from processor.terminal.label_table import COLOURS, Style


class Echo:
    """Prints one job after another: ``begin``, then ``on_event`` for each request event, then ``end``."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = console.stderr(stream)
        self._protocol: Protocol
        """Of the present job."""
        self._mask = StreamMask()
        self._last_text = ""
        """The last piece of reply text since the last header or footer line."""

    def begin(self, job: Job) -> None:
        self._protocol = protocol_for(job.path)
        self._print_line(f"── {one_line(job.custom_id, MAX_LINE_CHARS)}")

    def on_event(self, event: RequestEvent) -> None:
        if isinstance(event, Delta):
            self._print_text(event.text)
        elif isinstance(event, Sent) and self._last_text:
            self._print_line("reply interrupted, sent again", "warning")

    def on_invalid(self, problem: str) -> None:
        self._print_line(f"not valid, asked again: {one_line(problem, MAX_LINE_CHARS)}", "warning")

    def end(self, result: Result) -> None:
        if result.failure is not None:
            self._print_line(
                f"failed: {result.failure.code}: {one_line(result.failure.message, MAX_LINE_CHARS)}", "bad"
            )
        else:
            if not self._last_text and result.reply is not None:
                self._print_text(self._protocol.text(result.reply.body))
            self._print_line(_footer(result))
        self._stream.write("\n")
        self._stream.flush()

    def _print_text(self, text: str) -> None:
        text = self._mask.feed(text)
        self._last_text = text or self._last_text
        self._stream.write(printable(text))
        self._stream.flush()

    def _print_line(self, text: str, style: Style = "") -> None:
        """Prints a header or footer line, which colour distinguishes from the reply."""
        if held := self._mask.flush():
            self._last_text = held
            self._stream.write(printable(held))
        if self._last_text:
            self._stream.write("" if self._last_text.endswith("\n") else "\n")
            self._last_text = ""
        if console.is_terminal(self._stream):
            from rich.text import Text

            console.rich_console(self._stream).print(Text(text, style=COLOURS[style] or "dim"))
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


def _footer(result: Result) -> str:
    parts = []
    if result.timing is not None:
        if result.timing.first_token_s is not None:
            parts.append(f"{duration(result.timing.first_token_s)} to the first token")
        parts.append(f"{duration(result.timing.total_s)} in total")
    if result.usage is not None:
        parts.append(f"{result.usage.completion_tokens:,} tokens")
    return f"── {joined(parts)}"
