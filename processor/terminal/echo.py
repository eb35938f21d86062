"""Replies as they stream, one job at a time: for trying a prompt."""

from __future__ import annotations

from typing import Any, TextIO

from processor.core.events import Delta, RequestEvent, Sent
from processor.core.models import Job, Result
from processor.terminal import console
from processor.terminal.formatting import duration, listed, one_line, printable
from processor.terminal.label_table import COLOURS, Style


class Echo:
    """``begin`` a job, ``tell`` its signals, ``end`` it with its result; then the next."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = console.stderr(stream)
        self._last = ""
        """The text written since the last line of our own."""

    def begin(self, job: Job) -> None:
        self._line(f"── {one_line(job.custom_id)}")

    def tell(self, signal: RequestEvent) -> None:
        if isinstance(signal, Delta):
            self._write(signal.text)
        elif isinstance(signal, Sent) and self._last:
            self._line("broke off, sent again", "warning")

    def end(self, result: Result) -> None:
        if result.failure is not None:
            self._line(f"failed: {result.failure.code}: {one_line(result.failure.message)}", "bad")
        else:
            if not self._last and result.reply is not None:
                self._write(said(result.reply.body))
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


def said(body: dict[str, Any]) -> str:
    """The first choice's text, for a reply that did not stream, or said nothing but a tool call."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    if not isinstance(message, dict):
        return str(choice.get("text") or "")
    content = _text(message.get("content"))
    if content or message.get("refusal"):
        return str(content or message.get("refusal"))
    calls = message.get("tool_calls")
    functions = [call.get("function") or {} for call in calls or () if isinstance(call, dict)]
    return "\n".join(f"{function.get('name')}({function.get('arguments')})" for function in functions)


def _text(content: Any) -> Any:
    """Of content in parts those that are text."""
    if not isinstance(content, list):
        return content
    return "".join(str(part["text"]) for part in content if isinstance(part, dict) and part.get("type") == "text")


def _ending(result: Result) -> str:
    parts = []
    if result.timing is not None:
        if result.timing.first_token_s is not None:
            parts.append(f"{duration(result.timing.first_token_s)} to the first token")
        parts.append(f"{duration(result.timing.total_s)} in all")
    if result.usage is not None:
        parts.append(f"{result.usage.completion_tokens:,} tokens")
    return f"── {listed(parts)}"
