"""What the APIs have in common whose replies consist of `choices`: chat completions and completions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from processor.core import json_bytes
from processor.core.errors import ProtocolError, StatusError
from processor.core.models import JSON, Job
from processor.protocols.base import Protocol, ReplyEnding, RequestOptions
from processor.protocols.choices_accumulator import END_MARKER
from processor.protocols.error_mapping import error_from_event
from processor.protocols.finish_reasons import failed_reply, given_reason, is_failure, is_success
from processor.protocols.inband_errors import raise_error_in
from processor.protocols.option_refusals import (
    OUTPUT_LIMIT_FIELDS,
    other_output_limit_field,
    refuses_stream_options,
)
from processor.protocols.reply_json import as_object, parse_value
from processor.protocols.reported_usage import lift_groq_usage
from processor.protocols.request_body import unstreamed
from processor.tokens.rules import ModelCounter

_STOPPED = ReplyEnding(("stop",), is_cut_short=False, is_unconfirmed=False)


class ChoicesProtocol(Protocol):
    end_marker = END_MARKER

    def encode(self, job: Job, options: RequestOptions) -> bytes:
        """The job's body in its own order, with `stream_options` that ask for what ``options`` say.

        https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options
        """
        body = job.body
        if options.output_limit_field is not None:
            body = _with_output_limit_as(options.output_limit_field, body)
        if not self.is_streamed(job, options):
            return json_bytes.dumps(unstreamed(body))
        body = {**body, "stream": True}
        given = body.pop("stream_options", None)
        if options.include_usage:
            added: JSON = {"include_usage": True}
            if options.disable_obfuscation:
                added["include_obfuscation"] = False
            body["stream_options"] = added | given if isinstance(given, dict) else added
        return json_bytes.dumps(body)

    def adapt(self, error: StatusError, job: Job, options: RequestOptions) -> RequestOptions | None:
        is_streamed = self.is_streamed(job, options)
        if is_streamed and options.include_usage and "stream_options" not in job.body and refuses_stream_options(error):
            if options.disable_obfuscation and "obfuscation" in str(error):
                return replace(options, disable_obfuscation=False)
            return replace(options, include_usage=False)
        if options.output_limit_field is None and (field := other_output_limit_field(error, job.body)) is not None:
            return replace(options, output_limit_field=field)
        return super().adapt(error, job, options)

    def parse_json(self, data: bytes) -> JSON:
        value = parse_value(data, "the reply")
        raise_error_in(value)
        body = as_object(value, data, "the reply")
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices:
            raise ProtocolError("the reply has no choices")
        if not all(isinstance(choice, dict) for choice in choices):
            raise ProtocolError("a choice is not an object")
        _check_choices(choices)
        lift_groq_usage(body)
        return body

    def text(self, body: JSON) -> str:
        choices = _choices_in(body)
        return self._text_of(choices[0]) if choices else ""

    def finish_reasons(self, body: JSON) -> list[str]:
        reasons: list[str] = []
        for choice in _choices_in(body):
            reason = given_reason(choice.get("finish_reason"))
            if reason is not None and reason not in reasons:
                reasons.append(reason)
        return reasons

    def is_unconfirmed(self, body: JSON) -> bool:
        for choice in _choices_in(body):  # noqa: SIM110 (a generator costs more, for each reply)
            if not is_success(given_reason(choice.get("finish_reason"))):
                return True
        return False

    def ending(self, body: JSON, request: JSON) -> ReplyEnding:
        choices = _choices_in(body)
        if len(choices) == 1 and choices[0].get("finish_reason") == "stop":  # most replies
            return _STOPPED
        return super().ending(body, request)

    def outputs(self, reply: JSON, request: JSON) -> list[str]:
        return [self._output_of(choice, request) for choice in _choices_in(reply)]

    def is_cut_short(self, body: JSON, request: JSON) -> bool:
        for choice in _choices_in(body):  # noqa: SIM110 (a generator costs more, for each reply)
            if choice.get("finish_reason") == "length":
                return True
        return False

    def max_output_tokens(self, body: JSON) -> int | None:
        for field in OUTPUT_LIMIT_FIELDS:
            if field in body and type(limit := body[field]) is int:
                return max(limit, 0)
        return None

    def choices(self, body: JSON) -> int:
        n = body.get("n")
        return n if type(n) is int and n > 0 else 1

    def _count_reply(self, reply: JSON, request: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        tokens = 0
        for choice in _choices_in(reply):
            tokens += self._count_choice(choice, request, counter, reasons)
        return tokens

    def _output_of(self, choice: JSON, request: JSON) -> str:
        return self._text_of(choice)

    def _text_of(self, choice: JSON) -> str:
        return str(choice.get("text") or "")

    def _count_choice(self, choice: JSON, request: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        text = choice.get("text")
        return counter.count_text(text) if isinstance(text, str) else 0


def _check_choices(choices: list[JSON]) -> None:
    """Raises StatusError for an error in a choice, ProtocolError where there is neither content nor an end."""
    is_empty = True
    for choice in choices:
        if choice.get("error"):
            raise error_from_event(choice)
        reason = given_reason(choice.get("finish_reason"))
        if reason is not None and is_failure(reason):
            raise failed_reply(reason)
        is_empty = is_empty and reason is None and not _has_content(choice)
    if is_empty:
        raise ProtocolError("the reply has neither content nor a finish reason")


def _has_content(choice: JSON) -> bool:
    message = choice.get("message")
    fields = message if isinstance(message, dict) else {"text": choice.get("text")}
    return any(value for name, value in fields.items() if name != "role")


def _choices_in(body: JSON) -> list[JSON]:
    """The choices that are objects. Called several times for each reply: the usual list is not copied."""
    choices: Any = body.get("choices")
    if not isinstance(choices, list):
        return []
    for choice in choices:
        if not isinstance(choice, dict):
            return [choice for choice in choices if isinstance(choice, dict)]
    return choices


def _with_output_limit_as(field: str, body: JSON) -> JSON:
    return {field if name in OUTPUT_LIMIT_FIELDS else name: value for name, value in body.items()}
