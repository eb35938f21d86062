"""Responses: https://platform.openai.com/docs/api-reference/responses

A stream ends with an event that holds the whole response, which is the body. What comes before it matters only for the
time of the first token, for showing text as it comes, and for servers that leave the output out of that event.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from processor.core import json_bytes
from processor.core.errors import InvalidJob, ProtocolError, StatusError, StreamTruncated
from processor.core.json_reading import fields_of
from processor.core.models import JSON, Job, Usage
from processor.core.text import json_type
from processor.protocols.base import Protocol, RequestOptions
from processor.protocols.error_mapping import error_from_event
from processor.protocols.finish_reasons import failed_reply, is_failure
from processor.protocols.hidden_reasoning import has_hidden_reasoning
from processor.protocols.inband_errors import raise_error_in
from processor.protocols.json_values import objects_of
from processor.protocols.reply_json import as_object, parse_value
from processor.protocols.request_body import unstreamed
from processor.protocols.structured_output import forced_tool, repeated_messages, schema_of_format, written_arguments
from processor.protocols.typed_events import TypedEventAccumulator, object_in
from processor.tokens.rules import ModelCounter, count_as_json, count_calls, count_part

_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_TEXT_DELTA = "response.output_text.delta"
_SUCCESSFUL = frozenset({"completed", "incomplete"})
_UNFINISHED = frozenset({"queued", "in_progress"})
_FILTERED = "content_filter"
_REFUSED_CODE = re.compile(r"invalid|policy|image|residency|unsupported|not_found|too_(?:large|long)|exceeded_context")
"""Codes of failed responses that speak of the request. Others are tried again."""
_OTHER_INPUTS = ("prompt", "previous_response_id", "conversation")
"""Any of them may stand in place of the input. What they refer to is at the server, and cannot be counted."""
_PRIMING_TOKENS, _MESSAGE_TOKENS = 3, 4
"""As in chat completions, with one token for the role. What this API adds is not published."""


class ResponsesAccumulator(TypedEventAccumulator):
    """Some servers send no ``output_index``: items without one stay in the order in which they came."""

    delta_beginnings = (b'{"type":"response.output_text.delta"', b'{"type": "response.output_text.delta"')

    def __init__(self) -> None:
        super().__init__()
        self._response: JSON | None = None
        self._items: dict[int, JSON] = {}

    def _on_event(self, kind: str, event: JSON) -> None:
        if kind in _TERMINAL:
            self._response = object_in(event, "response")
            self.saw_end_marker = True
        elif kind.endswith(".delta"):
            delta = event.get("delta")
            if kind == _TEXT_DELTA and isinstance(delta, str) and delta:
                self._add_text(delta)
            elif delta:
                self.has_content = True
        elif kind == "response.output_item.done":
            index = event.get("output_index")
            self._items[index if type(index) is int else len(self._items)] = object_in(event, "item")

    def _assemble(self) -> JSON:
        body = self._response
        if body is None:
            raise StreamTruncated("the stream ended before the response was complete", ended_by_server=True)
        if not body.get("output") and self._items:
            body = {**body, "output": [item for _, item in sorted(self._items.items())]}
        _check_status(body)
        return body


class Responses(Protocol):
    path = "/v1/responses"
    input_field = "input"
    prompt_fields = ("instructions", "input", "tools")
    end_marker = b"output_tokens"
    """Of the usage at the end of the terminal event; at the beginning some servers repeat the request's limit."""

    # ------------------------------------------------------------ requests

    def validate(self, body: JSON) -> None:
        value = body.get("input")
        if body.get("background"):
            raise InvalidJob("background responses are not supported: leave background out")
        if value is None and any(body.get(name) for name in _OTHER_INPUTS):
            return
        if not isinstance(value, str | list) or not value:
            needs = ': messages need "url": "/v1/chat/completions"' if "messages" in body else ""
            raise InvalidJob(f"input must be text or a list of items, not {json_type(value)}{needs}")

    def from_short(self, fields: JSON) -> JSON:
        if isinstance(fields["prompt"], dict):  # the API's own parameter: a prompt that is stored at the server
            return self.from_bare(fields)
        prompt = fields.pop("prompt")
        return self.from_bare({"input": prompt, **fields})

    def from_bare(self, fields: JSON) -> JSON:
        if "system" not in fields:
            return fields
        if fields.get("instructions") is not None:
            raise InvalidJob("has system beside instructions: keep one of them")
        return {"instructions" if name == "system" else name: value for name, value in fields.items()}

    def encode(self, job: Job, options: RequestOptions) -> bytes:
        """The usage comes unasked: of chat's stream options only the padding is known here."""
        if not self.is_streamed(job, options):
            return json_bytes.dumps(unstreamed(job.body))
        body = {**job.body, "stream": True}
        given = body.pop("stream_options", None)
        stream_options = {"include_obfuscation": False} if options.disable_obfuscation else {}
        if isinstance(given, dict):
            stream_options |= {name: value for name, value in given.items() if name != "include_usage"}
        if stream_options:
            body["stream_options"] = stream_options
        return json_bytes.dumps(body)

    def adapt(self, error: StatusError, job: Job, options: RequestOptions) -> RequestOptions | None:
        added_option = options.disable_obfuscation and "stream_options" not in job.body
        if added_option and self.is_streamed(job, options) and "obfuscation" in str(error):
            return replace(options, disable_obfuscation=False)
        return super().adapt(error, job, options)

    # ------------------------------------------------------------ responses

    def accumulator(self, job: Job) -> ResponsesAccumulator:
        return ResponsesAccumulator()

    def parse_json(self, data: bytes) -> JSON:
        value = parse_value(data, "the reply")
        if not isinstance(value, dict) or value.get("object") != "response":
            raise_error_in(value)
        body = as_object(value, data, "the reply")
        _check_status(body)
        return body

    def text(self, body: JSON) -> str:
        parts = [part for item in objects_of(body.get("output")) for part in objects_of(item.get("content"))]
        text = "".join(str(part.get("text") or "") for part in parts if part.get("type") == "output_text")
        text = text or "".join(str(part["refusal"]) for part in parts if part.get("refusal"))
        calls = [item for item in objects_of(body.get("output")) if item.get("type") == "function_call"]
        return text or "\n".join(f"{call.get('name')}({call.get('arguments')})" for call in calls)

    def finish_reasons(self, body: JSON) -> list[str]:
        reason = _incomplete_reason(body) or body.get("status")
        return [reason] if isinstance(reason, str) else []

    def is_cut_short(self, body: JSON, request: JSON) -> bool:
        """llama.cpp reports a reply that was cut off as completed: it has as many tokens as were allowed."""
        if body.get("status") == "incomplete":
            return _incomplete_reason(body) != _FILTERED
        allowed, reported = self.max_output_tokens(request), self.reported_usage(body)
        return allowed is not None and reported is not None and reported.completion_tokens >= allowed > 0

    def is_unconfirmed(self, body: JSON) -> bool:
        return body.get("status") not in _SUCCESSFUL

    def usage_json(self, usage: Usage) -> JSON:
        return {
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
        }

    # ------------------------------------------------------------ output that is to be JSON

    def output_schema(self, body: JSON) -> Any:
        tool = _forced_tool(body)
        return schema_of_format(fields_of(body.get("text")).get("format")) if tool is None else tool[1]

    def outputs(self, reply: JSON, request: JSON) -> list[str]:
        items = objects_of(reply.get("output"))
        calls = [written_arguments(item.get("arguments")) for item in items if item.get("type") == "function_call"]
        parts = [part for item in items for part in objects_of(item.get("content"))]
        text = "".join(str(part.get("text") or "") for part in parts if part.get("type") == "output_text")
        return calls[:1] if calls and (not text or _forced_tool(request)) else [text]

    def ask_again(self, request: JSON, output: str, question: str) -> JSON | None:
        """llama.cpp takes a message of the assistant only where its type is named."""
        if request.get("conversation"):  # the server has put the reply there
            return None
        given = request.get("input")
        messages = given if isinstance(given, list) else [{"role": "user", "content": given}] if given else []
        added = repeated_messages([], output, question)
        return {**request, "input": [*messages, *({"type": "message", **message} for message in added)]}

    def is_refused(self, body: JSON) -> bool:
        parts = [part for item in objects_of(body.get("output")) for part in objects_of(item.get("content"))]
        return super().is_refused(body) or any(part.get("refusal") for part in parts)

    # ------------------------------------------------------------ tokens

    def max_output_tokens(self, body: JSON) -> int | None:
        limit = body.get("max_output_tokens")
        return max(limit, 0) if type(limit) is int else None

    def _count_prompt(self, body: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        reasons.add("overhead")
        tokens = _PRIMING_TOKENS
        if isinstance(body.get("instructions"), str):
            tokens += _MESSAGE_TOKENS + counter.count_text(body["instructions"])
        value = body.get("input")
        if isinstance(value, str):
            tokens += _MESSAGE_TOKENS + counter.count_text(value)
        tokens += sum(_count_input(item, counter, reasons) for item in objects_of(value))
        if body.get("tools"):
            tokens += count_as_json(body["tools"], counter.count_text, reasons, "tools")
        text = body.get("text")
        text_format = text.get("format") if isinstance(text, dict) else None
        if isinstance(text_format, dict) and text_format.get("schema"):
            tokens += count_as_json(text_format["schema"], counter.count_text, reasons, "schema")
        if any(body.get(name) for name in _OTHER_INPUTS):
            reasons.add("other")
        return tokens

    def _count_reply(self, reply: JSON, request: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        if has_hidden_reasoning(reply, request, counter.base_model):
            reasons.add("reasoning")
        return sum(_count_output(item, counter, reasons) for item in objects_of(reply.get("output")))


def _forced_tool(body: JSON) -> tuple[Any, Any] | None:
    declared = [(tool.get("name"), tool.get("parameters")) for tool in objects_of(body.get("tools"))]
    return forced_tool(body.get("tool_choice"), declared)


def _check_status(body: JSON) -> None:
    """Raises StatusError where the response has failed, ProtocolError where it has not ended or has no output."""
    status = body.get("status")
    if status == "failed" or body.get("error"):
        raise _failure(body)
    if isinstance(status, str) and is_failure(status):
        raise failed_reply(status)
    if status in _UNFINISHED:
        raise ProtocolError(f"the reply is not complete: its status is {status}")
    if not isinstance(body.get("output"), list):
        raise ProtocolError("the reply has no output")


def _failure(body: JSON) -> StatusError:
    error: Any = body.get("error")
    fields: JSON = error if isinstance(error, dict) else {"message": error or "the server reported a failed response"}
    code = fields.get("code")
    if isinstance(code, str) and _REFUSED_CODE.search(code):
        fields = {**fields, "status": 400}
    failure = error_from_event({"error": fields})
    failure.body = body
    return failure


def _incomplete_reason(body: JSON) -> str | None:
    if body.get("status") != "incomplete":
        return None
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason if isinstance(reason, str) else None


def _count_input(item: JSON, counter: ModelCounter, reasons: set[str]) -> int:
    """A message of the input, or another item, such as a tool's output."""
    content = item.get("content")
    if isinstance(content, str):
        return _MESSAGE_TOKENS + counter.count_text(content)
    if isinstance(content, list):
        return _MESSAGE_TOKENS + sum(count_part(part, counter, reasons) for part in content)
    return count_as_json(item, counter.count_text, reasons, "tools")


def _count_output(item: JSON, counter: ModelCounter, reasons: set[str]) -> int:
    if item.get("type") in ("function_call", "custom_tool_call", "mcp_call"):
        called = {"name": item.get("name"), "arguments": item.get("arguments", item.get("input"))}
        return count_calls([called], counter.count_text, reasons)
    parts = objects_of(item.get("content")) + objects_of(item.get("summary"))
    if not parts and item.get("type") not in ("message", "reasoning"):  # what a tool of the server did
        reasons.add("tools")
    return sum(count_part(part, counter, reasons) for part in parts)
