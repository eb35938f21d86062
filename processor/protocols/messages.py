"""Messages, Anthropic's API: https://docs.anthropic.com/en/api/messages, and for streams /en/api/messages-streaming"""

from __future__ import annotations

from typing import Any

from processor.core import json_bytes
from processor.core.errors import InvalidJob, ProtocolError, StreamTruncated
from processor.core.json_reading import fields_of
from processor.core.models import JSON, Job, Usage
from processor.core.text import json_type
from processor.protocols.base import Protocol, RequestOptions
from processor.protocols.finish_reasons import failed_reply, given_reason, is_failure, is_success
from processor.protocols.inband_errors import raise_error_in
from processor.protocols.json_values import objects_of
from processor.protocols.lenient_json import joined_text
from processor.protocols.reply_json import as_object, parse_value
from processor.protocols.reported_usage import usage_in
from processor.protocols.request_body import unstreamed
from processor.protocols.structured_output import forced_tool, repeated_messages, schema_of_format, written_arguments
from processor.protocols.typed_events import TypedEventAccumulator, object_in
from processor.tokens.rules import ModelCounter, count_as_json, count_part

_PIECES = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "compaction_delta": ("content", "content"),
}
"""Deltas whose pieces are joined: the field of the delta, and that of the block."""
_ALWAYS_TAKEN = frozenset({"stop_reason", "stop_sequence", "stop_details"})
"""Fields of a message that its last event sets even to null."""
_CUT_SHORT = frozenset({"max_tokens", "model_context_window_exceeded", "pause_turn"})
"""pause_turn: the server wants to be asked to go on."""
_CACHED = ("cache_creation_input_tokens", "cache_read_input_tokens")
_PRIMING_TOKENS, _MESSAGE_TOKENS = 3, 4
"""Estimates: how messages are put together is not published."""


class Block:
    """One content block. ``pieces``: of the fields that come in pieces; ``input_json``: of a tool's input."""

    __slots__ = ("fields", "input_json", "pieces")

    def __init__(self, fields: JSON) -> None:
        self.fields = fields
        self.pieces: dict[str, list[str]] = {}
        self.input_json: list[str] = []

    def assemble(self, altered: set[str]) -> JSON:
        for name, pieces in self.pieces.items():
            self.fields[name] = (self.fields.get(name) or "") + "".join(pieces)
        if text := joined_text("".join(self.input_json), altered):
            try:
                self.fields["input"] = parse_value(text.encode(), "a tool's input", altered=altered)
            except ProtocolError:  # cut off by the limit of output tokens
                self.fields["partial_json"] = text
        return self.fields


class MessagesAccumulator(TypedEventAccumulator):
    """`message_start`, then blocks with their deltas, `message_delta` with the reason to stop, and `message_stop`."""

    delta_beginnings = (b'{"type":"content_block_delta"', b'{"type": "content_block_delta"')

    def __init__(self) -> None:
        super().__init__()
        self._message: JSON | None = None
        self._blocks: dict[int, Block] = {}

    def _on_event(self, kind: str, event: JSON) -> None:
        if kind == "content_block_delta":
            self._on_delta(object_in(event, "delta"), event.get("index"))
        elif kind == "content_block_start":
            self._begin_block(object_in(event, "content_block"), event.get("index"))
        elif kind == "message_start":
            self._message = object_in(event, "message")
        elif kind == "message_delta":
            self._on_message_delta(event)
        elif kind == "message_stop":
            self.saw_end_marker = True

    def _begin_block(self, fields: JSON, index: object) -> Block:
        block = Block(fields)
        self._blocks[index if type(index) is int else len(self._blocks)] = block
        if fields.get("type") != "text":  # a call, or what a tool of the server found
            self.has_content = True
        return block

    def _on_delta(self, delta: JSON, index: object) -> None:
        block = self._blocks.get(index if type(index) is int else len(self._blocks) - 1)
        if block is None:
            block = self._begin_block({"type": "text", "text": ""}, index)
        kind = delta.get("type")
        if kind in _PIECES:
            source, name = _PIECES[kind]
            piece = delta.get(source)
            if isinstance(piece, str) and piece:
                block.pieces.setdefault(name, []).append(piece)
                self.has_content = True
                if kind == "text_delta":
                    self._add_text(piece)
        elif kind == "input_json_delta":
            if isinstance(delta.get("partial_json"), str):
                block.input_json.append(delta["partial_json"])
        elif kind == "signature_delta":
            block.fields["signature"] = delta.get("signature")
        elif kind == "citations_delta":
            known = block.fields.get("citations")
            block.fields["citations"] = [*(known if isinstance(known, list) else ()), delta.get("citation")]
        if kind == "compaction_delta" and delta.get("encrypted_content") is not None:
            block.fields["encrypted_content"] = delta["encrypted_content"]

    def _on_message_delta(self, event: JSON) -> None:
        """Numbers of the usage are totals so far. One that is null says nothing."""
        if self._message is None:
            return
        for name, value in object_in(event, "delta").items():
            if value is not None or name in _ALWAYS_TAKEN:
                self._message[name] = value
        usage = event.get("usage")
        if isinstance(usage, dict):
            known = self._message.get("usage")
            told = {name: value for name, value in usage.items() if value is not None}
            self._message["usage"] = {**(known if isinstance(known, dict) else {}), **told}
        for name, value in event.items():
            if name not in ("type", "delta", "usage") and value is not None:
                self._message[name] = value

    def _assemble(self) -> JSON:
        message = self._message
        if message is None or not (self.saw_end_marker or given_reason(message.get("stop_reason"))):
            raise StreamTruncated("the stream ended before the message was complete", ended_by_server=True)
        message["content"] = [block.assemble(self.altered) for _, block in sorted(self._blocks.items())]
        _check_end(message)
        return message


class Messages(Protocol):
    path = "/v1/messages"
    input_field = "messages"
    prompt_fields = ("system", "messages", "tools")
    end_marker = b"message_stop"
    headers = (("anthropic-version", "2023-06-01"),)

    # ------------------------------------------------------------ requests

    def validate(self, body: JSON) -> None:
        messages, limit = body.get("messages"), body.get("max_tokens")
        if not isinstance(messages, list) or not messages:
            raise InvalidJob("has no messages")
        for message in messages:
            if not isinstance(message, dict):
                raise InvalidJob(f"every message must be an object, not {json_type(message)}")
        if limit is None:
            raise InvalidJob("has no max_tokens, which this API requires")
        if type(limit) is not int or limit < 0:
            raise InvalidJob(f"max_tokens must be a whole number, not {limit!r:.40}")

    def from_short(self, fields: JSON) -> JSON:
        prompt = fields.pop("prompt")
        if not isinstance(prompt, str | list) or not prompt:
            raise InvalidJob(f"prompt must be text, not {json_type(prompt)}")
        return {**fields, "messages": [{"role": "user", "content": prompt}]}

    def encode(self, job: Job, options: RequestOptions) -> bytes:
        """The usage comes unasked, and `stream_options` are refused."""
        if not self.is_streamed(job, options):
            return json_bytes.dumps(unstreamed(job.body))
        body = {name: value for name, value in job.body.items() if name != "stream_options"}
        return json_bytes.dumps({**body, "stream": True})

    # ------------------------------------------------------------ responses

    def accumulator(self, job: Job) -> MessagesAccumulator:
        return MessagesAccumulator()

    def parse_json(self, data: bytes) -> JSON:
        value = parse_value(data, "the reply")
        raise_error_in(value)
        body = as_object(value, data, "the reply")
        _check_end(body)
        return body

    def text(self, body: JSON) -> str:
        blocks = objects_of(body.get("content"))
        text = "".join(str(block.get("text") or "") for block in blocks if block.get("type") == "text")
        calls = [block for block in blocks if block.get("type") == "tool_use"]
        return text or "\n".join(f"{call.get('name')}({_as_json(call.get('input'))})" for call in calls)

    def finish_reasons(self, body: JSON) -> list[str]:
        reason = given_reason(body.get("stop_reason"))
        return [reason] if reason else []

    def is_cut_short(self, body: JSON, request: JSON) -> bool:
        return body.get("stop_reason") in _CUT_SHORT

    def is_unconfirmed(self, body: JSON) -> bool:
        reason = given_reason(body.get("stop_reason"))
        return reason not in _CUT_SHORT and not is_success(reason)

    def reported_usage(self, body: JSON) -> Usage | None:
        """The prompt includes what was written to and read from the cache, which the API counts apart."""
        usage, given = usage_in(body), body.get("usage")
        if usage is None or not isinstance(given, dict):
            return usage
        cached = sum(given[name] for name in _CACHED if type(given.get(name)) is int)
        return Usage(prompt_tokens=usage.prompt_tokens + cached, completion_tokens=usage.completion_tokens)

    def usage_json(self, usage: Usage) -> JSON:
        return {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}

    # ------------------------------------------------------------ output that is to be JSON

    def output_schema(self, body: JSON) -> Any:
        tool = _forced_tool(body)
        asked = fields_of(body.get("output_config")).get("format") or body.get("output_format")
        return schema_of_format(asked) if tool is None else tool[1]

    def outputs(self, reply: JSON, request: JSON) -> list[str]:
        """A last message of the assistant in the request is the beginning of the text."""
        blocks = objects_of(reply.get("content"))
        calls = [written_arguments(block.get("input")) for block in blocks if block.get("type") == "tool_use"]
        text = "".join(str(block.get("text") or "") for block in blocks if block.get("type") == "text")
        if calls and (not text or _forced_tool(request)):
            return calls[:1]
        last = objects_of(request.get("messages"))[-1:]
        begun = last[0].get("content") if last and last[0].get("role") == "assistant" else ""
        return [begun + text if isinstance(begun, str) else text]

    def ask_again(self, request: JSON, output: str, question: str) -> JSON | None:
        messages = request["messages"]
        if fields_of(messages[-1]).get("role") == "assistant":
            messages = messages[:-1]  # the output has it
        return {**request, "messages": repeated_messages(messages, output, question)}

    # ------------------------------------------------------------ tokens

    def max_output_tokens(self, body: JSON) -> int | None:
        limit = body.get("max_tokens")
        return max(limit, 0) if type(limit) is int else None

    def _count_prompt(self, body: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        reasons.add("overhead")
        tokens = _PRIMING_TOKENS + _count_content(body.get("system"), counter, reasons)
        for message in objects_of(body.get("messages")):
            tokens += _MESSAGE_TOKENS + _count_content(message.get("content"), counter, reasons)
        if body.get("tools"):
            tokens += count_as_json(body["tools"], counter.count_text, reasons, "tools")
        return tokens

    def _count_reply(self, reply: JSON, request: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        """What a tool of the server found is part of the next prompt."""
        blocks = objects_of(reply.get("content"))
        written = [block for block in blocks if not str(block.get("type")).endswith("_tool_result")]
        if len(written) < len(blocks):
            reasons.add("tools")
        return _count_content(written, counter, reasons)


def _forced_tool(body: JSON) -> tuple[Any, Any] | None:
    declared = [(tool.get("name"), tool.get("input_schema")) for tool in objects_of(body.get("tools"))]
    return forced_tool(body.get("tool_choice"), declared)


def _check_end(message: JSON) -> None:
    """Raises ServerError where the reason to stop is a failure, ProtocolError where there is neither it nor content."""
    content, reason = message.get("content"), given_reason(message.get("stop_reason"))
    if not isinstance(content, list):
        raise ProtocolError("the reply has no content")
    if reason is not None and is_failure(reason):
        raise failed_reply(reason)
    if reason is None and not content:
        raise ProtocolError("the reply has neither content nor a reason to stop")


def _as_json(value: Any) -> str:
    return json_bytes.dumps(value).decode()


def _count_content(content: Any, counter: ModelCounter, reasons: set[str]) -> int:
    if isinstance(content, str):
        return counter.count_text(content)
    return sum(_count_block(block, counter, reasons) for block in objects_of(content))


def _count_block(block: JSON, counter: ModelCounter, reasons: set[str]) -> int:
    kind = block.get("type")
    if kind in ("tool_use", "server_tool_use"):
        called = {"name": block.get("name"), "input": block.get("input")}
        return count_as_json(called, counter.count_text, reasons, "tools")
    if kind == "tool_result":
        reasons.add("tools")
        return _count_content(block.get("content"), counter, reasons)
    if kind == "redacted_thinking":
        reasons.add("reasoning")
        return 0
    return count_part(block, counter, reasons)
