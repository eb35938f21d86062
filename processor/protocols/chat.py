"""Chat completions: https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

from typing import Any

from processor.core.errors import InvalidJob, ProtocolError
from processor.core.fast_dataclass import dataclass
from processor.core.json_reading import fields_of
from processor.core.models import JSON, Job
from processor.core.text import json_type
from processor.protocols.choices_accumulator import ChoicesAccumulator
from processor.protocols.choices_protocol import ChoicesProtocol
from processor.protocols.delta_merge import are_parts, as_parts, join_text_parts
from processor.protocols.hidden_reasoning import has_hidden_reasoning
from processor.protocols.json_values import objects_of
from processor.protocols.structured_output import forced_tool, repeated_messages, schema_of_format, written_arguments
from processor.tokens.audio import SPOKEN_TOKENS_PER_S, count_audio
from processor.tokens.rules import ModelCounter, count_as_json, count_calls, count_part

_INSTEAD_OF_CONTENT = frozenset({"tool_calls", "function_call", "refusal", "audio"})

_SYSTEM_ROLES = ("system", "developer")

_PROMPT_FIELDS = {"tools": "tools", "functions": "tools", "web_search_options": "tools", "documents": "files"}
"""Fields beside the messages that become part of the prompt, and why their count is an estimate."""

_COUNTED_BESIDE_CONTENT = (
    "reasoning_content",
    "reasoning",
    "refusal",
    "tool_calls",
    "function_call",
    "audio",
)
"""Fields of a reply's message, beside its content, whose tokens count."""

PRIMING_TOKENS = 3
"""Every reply is primed with ``<|start|>assistant<|message|>``."""


SAMPLE_EVENTS = (
    *(b'data: {"id": "a", "choices": [{"index": 0, "delta": {"content": "%d"}}]}\n\n' % number for number in range(3)),
    b'data: {"id": "a", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n',
    b"data: [DONE]\n\n",
)
"""A short streamed reply as it is sent, event by event: for checks of a transport."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageOverhead:
    """Tokens of a message beside those of its values; ``name_tokens``: more for one that has a name."""

    tokens: int
    name_tokens: int


OVERHEAD = MessageOverhead(tokens=3, name_tokens=1)
OVERHEAD_0301 = MessageOverhead(tokens=4, name_tokens=-1)
"""``<|start|>{role/name}\\n{content}<|end|>\\n``: a name takes the role's place."""
_MODEL_0301 = "gpt-3.5-turbo-0301"


class ChatAccumulator(ChoicesAccumulator):
    """Merges `choices[].delta` to `choices[].message`: the reference has chunks and bodies side by side.

    https://platform.openai.com/docs/api-reference/chat-streaming
    """

    __slots__ = ()

    object_name = "chat.completion"
    text_field = "content"

    def _pop_delta(self, choice: JSON) -> JSON:
        delta = choice.pop("delta", None)
        if delta is None:
            text = choice.get("text")  # of a server that sends the chunks of completions
            return {"content": text} if isinstance(text, str) and text else {}
        if not isinstance(delta, dict):
            raise ProtocolError("a delta is not an object")
        content = delta.get("content")
        if content is not None and not isinstance(content, str) and not are_parts(content):
            parts = as_parts(content)
            if parts is None:
                raise ProtocolError("the content of a delta is neither text nor parts")
            delta["content"] = parts or None
        return delta

    def _finalize(self, content: JSON) -> JSON:
        message = {"role": "assistant", "content": None} | content
        message["role"] = message["role"] or "assistant"
        message["content"] = join_text_parts(message["content"])
        if not message["content"]:
            has_other = any(message[name] for name in _INSTEAD_OF_CONTENT & message.keys())
            message["content"] = None if has_other else ""
        return {"message": message}


def _with_system(system: object, messages: list[Any]) -> list[Any]:
    if system is None:
        return messages
    if not isinstance(system, str | list):
        raise InvalidJob(f"system must be text, not {json_type(system)}")
    if any(isinstance(message, dict) and message.get("role") in _SYSTEM_ROLES for message in messages):
        raise InvalidJob("has system beside messages that hold a system message: keep one of them")
    return [{"role": "system", "content": system}, *messages]


class ChatCompletions(ChoicesProtocol):
    path = "/v1/chat/completions"
    input_field = "messages"
    prompt_fields = ("messages", "tools", "functions")

    def validate(self, body: JSON) -> None:
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            needs = ': a prompt in a body needs "url": "/v1/completions"' if "prompt" in body else ""
            raise InvalidJob(f"has no messages{needs}")
        for message in messages:
            if not isinstance(message, dict):
                raise InvalidJob(f"every message must be an object, not {json_type(message)}")

    def from_short(self, fields: JSON) -> JSON:
        prompt, system = fields.pop("prompt"), fields.pop("system", None)
        if not isinstance(prompt, str | list) or not prompt:
            raise InvalidJob(f"prompt must be text, not {json_type(prompt)}")
        return {**fields, "messages": _with_system(system, [{"role": "user", "content": prompt}])}

    def from_bare(self, fields: JSON) -> JSON:
        """``system`` becomes the first message: the API has no such parameter, and some servers ignore it silently."""
        messages = fields.get("messages")
        if "system" in fields and isinstance(messages, list):
            fields["messages"] = _with_system(fields.pop("system"), messages)
        return fields

    def cannot_be_streamed(self, body: JSON) -> bool:
        """Of the audio formats only `pcm16` is streamed.

        https://platform.openai.com/docs/api-reference/chat/create#chat-create-audio
        """
        audio = body.get("audio")
        return isinstance(audio, dict) and audio.get("format") not in (None, "pcm16")

    def accumulator(self, job: Job) -> ChatAccumulator:
        return ChatAccumulator(self.choices(job.body))

    # ------------------------------------------------------------ output that is to be JSON

    def output_schema(self, body: JSON) -> Any:
        tool = _forced_tool(body)
        return schema_of_format(body.get("response_format")) if tool is None else tool[1]

    def ask_again(self, request: JSON, output: str, question: str) -> JSON | None:
        return {**request, "messages": repeated_messages(request["messages"], output, question)}

    def is_refused(self, body: JSON) -> bool:
        messages = objects_of([choice.get("message") for choice in objects_of(body.get("choices"))])
        return super().is_refused(body) or any(message.get("refusal") for message in messages)

    def _output_of(self, choice: JSON, request: JSON) -> str:
        message = fields_of(choice.get("message"))
        content = str(_without_other_parts(message.get("content")) or "")
        calls = objects_of(message.get("tool_calls"))
        called = fields_of(calls[0].get("function") if calls else message.get("function_call"))
        arguments = written_arguments(called.get("arguments"))
        is_call = bool(arguments) and _forced_tool(request) is not None
        return arguments if is_call else content or arguments

    # ------------------------------------------------------------ tokens

    def _prompt_overhead(self, body: JSON) -> int:
        messages = body.get("messages")
        return OVERHEAD.tokens * len(messages) + PRIMING_TOKENS if isinstance(messages, list) else 0

    def _count_prompt(self, body: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        """The rule of https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken"""
        overhead = OVERHEAD_0301 if counter.base_model == _MODEL_0301 else OVERHEAD
        messages = body.get("messages")
        tokens = PRIMING_TOKENS
        for message in messages if isinstance(messages, list) else ():
            tokens += _count_message(message, counter, overhead, reasons)
        for key in _PROMPT_FIELDS.keys() & body.keys():
            if body[key]:
                tokens += count_as_json(body[key], counter.count_text, reasons, _PROMPT_FIELDS[key])
        response_format = body.get("response_format")
        if isinstance(response_format, dict) and response_format.get("json_schema"):
            tokens += count_as_json(response_format["json_schema"], counter.count_text, reasons, "schema")
        return tokens

    def _count_reply(self, reply: JSON, request: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        if request.get("prediction"):
            reasons.add("prediction")
        if has_hidden_reasoning(reply, request, counter.base_model):
            reasons.add("reasoning")
        return super()._count_reply(reply, request, counter, reasons)

    def _count_choice(self, choice: JSON, request: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        message = choice.get("message")
        if not isinstance(message, dict):
            return super()._count_choice(choice, request, counter, reasons)
        content = message.get("content")
        if isinstance(content, str) and not any(map(message.get, _COUNTED_BESIDE_CONTENT)):  # nearly all replies
            return counter.count_text(content)
        tokens = 0
        for value in (content, message.get("reasoning_content") or message.get("reasoning")):
            if isinstance(value, str):
                tokens += counter.count_text(value)
            elif value:
                tokens += _count_value("content", value, counter, reasons)
        if isinstance(message.get("refusal"), str):
            tokens += counter.count_text(message["refusal"])
        for key in ("tool_calls", "function_call"):
            if message.get(key):
                tokens += count_calls(message[key], counter.count_text, reasons)
        if message.get("audio"):
            tokens += _count_spoken(message["audio"], request, counter, reasons)
        return tokens

    # ------------------------------------------------------------ text

    def _text_of(self, choice: JSON) -> str:
        message = choice.get("message")
        if not isinstance(message, dict):
            return super()._text_of(choice)
        content = _without_other_parts(message.get("content"))
        if content or message.get("refusal"):
            return str(content or message.get("refusal"))
        calls = message.get("tool_calls")
        functions = [call.get("function") for call in objects_of(calls)]
        return "\n".join(f"{called.get('name')}({called.get('arguments')})" for called in objects_of(functions))


def _forced_tool(body: JSON) -> tuple[Any, Any] | None:
    functions = objects_of([tool.get("function") for tool in objects_of(body.get("tools"))])
    functions = functions or objects_of(body.get("functions"))
    declared = [(function.get("name"), function.get("parameters")) for function in functions]
    return forced_tool(body.get("tool_choice") or body.get("function_call"), declared)


def _without_other_parts(content: Any) -> Any:
    """The joined text of content that is a list of parts."""
    if not isinstance(content, list):
        return content
    return "".join(str(part.get("text") or "") for part in objects_of(content) if part.get("type") == "text")


def _count_message(message: Any, counter: ModelCounter, overhead: MessageOverhead, reasons: set[str]) -> int:
    tokens = overhead.tokens
    if not isinstance(message, dict):
        return tokens + count_as_json(message, counter.count_text, reasons)
    for key, value in message.items():
        if isinstance(value, str):
            tokens += counter.count_text(value)
        elif value is not None:
            tokens += _count_value(key, value, counter, reasons)
    return tokens + (overhead.name_tokens if message.get("name") is not None else 0)


def _count_value(key: str, value: Any, counter: ModelCounter, reasons: set[str]) -> int:
    """A field of a message that is not a string."""
    if key == "content" and isinstance(value, list):
        return sum(count_part(part, counter, reasons) for part in value)
    if key in ("tool_calls", "function_call"):
        return count_calls(value, counter.count_text, reasons)
    if key == "audio":  # an earlier reply, by its id
        return count_part({key: value}, counter, reasons)
    return count_as_json(value, counter.count_text, reasons)


def _count_spoken(audio: Any, request: JSON, counter: ModelCounter, reasons: set[str]) -> int:
    """The audio of a reply and its text, which are charged both."""
    reasons.add("audio")
    asked = request.get("audio")
    tokens = count_audio(audio, SPOKEN_TOKENS_PER_S, asked.get("format") if isinstance(asked, dict) else None)
    transcript = audio.get("transcript") if isinstance(audio, dict) else None
    return tokens + (counter.count_text(transcript) if isinstance(transcript, str) else 0)
